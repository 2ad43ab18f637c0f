import dataclasses
from pathlib import Path

import pytest

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
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
        ("mixing=-0.5", "mixing must be from 0 to 1, got -0.5"),
        ("mixed_negatives=0", "mixed_negatives must be positive, got 0"),
        (
            "retrieval_loss=nce",
            "retrieval_loss must be one of softmax, mixed_softmax, hinge, got 'nce'",
        ),
        (
            "ranking_loss=ndcg",
            "ranking_loss must be one of logistic, hinge, listwise, got 'ndcg'",
        ),
        (
            "grains=word,-brand",
            "grains must name the grains to use, or with a minus those to leave out, not both, got 'word,-brand'",
        ),
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
        schema.Grain(name="bigram", kind=schema.GrainKind.TEXT, size=9),
        schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=9),
        schema.Grain(name="price", kind=schema.GrainKind.NUMBER, size=9),
    ),
    max_query_words=8,
    max_field_words=8,
)


def chosen(grains: str) -> list[str]:
    return [g.name for g in TrainConfig(grains=grains).chosen_grains(SPEC)]


@pytest.mark.parametrize(
    ("grains", "names"),
    [
        ("", ["word", "bigram", "brand", "price"]),
        ("price, word", ["word", "price"]),
        ("word", ["word"]),
        ("-bigram", ["word", "brand", "price"]),
        ("-bigram, -price", ["word", "brand"]),
        ("attributes,word", ["word", "brand", "price"]),
        ("-attributes", ["word", "bigram"]),
        ("-attributes,-word", ["bigram"]),
    ],
)
def test_grains_are_chosen_by_name_or_left_out_by_minus(
    grains: str, names: list[str]
) -> None:
    assert chosen(grains) == names


@pytest.mark.parametrize(
    ("grains", "message"),
    [
        (
            "word,colour",
            "grains names colour, but the data has word, bigram, brand, price",
        ),
        ("-colour", "grains names colour, but the data has word, bigram, brand, price"),
        (
            "brand",
            "grains must leave a text grain, one of word, bigram, character.*, got 'brand'",
        ),
        ("-word,-bigram", "grains must leave a text grain.*, got '-word,-bigram'"),
    ],
)
def test_grains_that_the_data_lacks_are_refused(grains: str, message: str):
    with pytest.raises(CommandError, match=message):
        chosen(grains)


def test_attributes_are_refused_where_there_are_none() -> None:
    bare = dataclasses.replace(SPEC, grains=SPEC.text_grains)
    with pytest.raises(CommandError, match="names attributes, but the data has word"):
        TrainConfig(grains="-attributes").chosen_grains(bare)
