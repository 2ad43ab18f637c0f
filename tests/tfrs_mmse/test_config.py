import json
from pathlib import Path

import pytest

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import PRESETS, TrainConfig
from tfrs_mmse.train import resolve


def test_settings_override_the_preset_and_keep_their_types():
    config = TrainConfig().override(
        ["epochs=3", "temperature=1", "log_q=false", "grains=word", "fusion=early"]
    )
    assert (config.epochs, config.temperature, config.log_q) == (3, 1.0, False)
    assert (config.grains, config.fusion) == ("word", "early")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "--set takes key=value, got 'epochs'"),
        ("epoch=3", "--set epoch: no such config field; known are seed, grains"),
        ("preset=x", "--set preset: no such config field"),
        ("epochs=three", "epochs must be int, got 'three'"),
        ("epochs=2.5", "epochs must be int, got 2.5"),
        ("log_q=1", "log_q must be bool, got 1"),
        ("temperature=0", "temperature must be positive, got 0.0"),
        ("ranking_warmup=1.5", "ranking_warmup must be from 0 to 1, got 1.5"),
        ("uniform_negatives=-1", "uniform_negatives must be at least 0, got -1"),
        ("fusion=late", "fusion must be one of post, early, got 'late'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(setting: str, message: str):
    with pytest.raises(CommandError, match=message):
        TrainConfig().override([setting])


def test_unknown_fields_are_refused():
    with pytest.raises(
        CommandError, match="unknown config fields lr, tau; known are attribute_dim"
    ):
        TrainConfig.from_dict({"tau": 1, "lr": 2})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json_and_carry_their_name(name: str):
    config = PRESETS[name]()
    assert config.preset == name
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_file_comes_before_single_settings(tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_text('{"epochs": 5, "seed": 3}')
    config = resolve("two_tower", file, ["epochs=7"])
    assert (config.preset, config.epochs, config.seed) == ("two_tower", 7, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not valid JSON"), ("[1]", "must hold a JSON object")],
)
def test_a_broken_config_file_is_refused(tmp_path: Path, text: str, message: str):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(CommandError, match=message):
        resolve("mmse", file, [])


SPEC = schema.FeatureSpec(
    text_fields=("title",),
    grains=(
        schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=9),
        schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=9),
    ),
    max_query_words=8,
    max_field_words=8,
)


def test_grains_are_chosen_in_the_order_of_the_data():
    assert TrainConfig().chosen_grains(SPEC) == SPEC.grains
    assert TrainConfig(grains="brand, word").chosen_grains(SPEC) == SPEC.grains
    assert TrainConfig(grains="word").chosen_grains(SPEC) == SPEC.grains[:1]


@pytest.mark.parametrize(
    ("grains", "message"),
    [
        ("word,colour", "grains names colour, but the data has word, brand"),
        ("brand", "grains must name a text grain, one of word, bigram, character"),
    ],
)
def test_grains_that_the_data_lacks_are_refused(grains: str, message: str):
    with pytest.raises(CommandError, match=message):
        TrainConfig(grains=grains).chosen_grains(SPEC)
