"""What a training is estimated to need: laws of the estimate, and what is said and refused."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfrs_mmse import machine, resources, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.restore import build

RECORD_BYTES = {schema.TRAIN: 800.0, schema.ITEMS: 600.0}


def manifest(words: int = 10_000, num_items: int = 50_000) -> schema.Manifest:
    return schema.Manifest(
        features=schema.FeatureSpec(
            text_fields=("title", "tags"),
            grains=(
                schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=words),
                schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=100),
            ),
            max_query_words=8,
            max_field_words=8,
        ),
        num_items=num_items,
        splits={
            "train": {
                "requests": 100_000,
                "clicked": 90_000,
                "ordered": 20_000,
                "unclicked": 300_000,
            }
        },
        accounting={},
        sources={},
        config={},
        vocabulary_hash="",
    )


def need(config: TrainConfig | None = None, **sizes: int) -> resources.Memory:
    return resources.memory(config or TrainConfig(), manifest(**sizes), RECORD_BYTES)


@pytest.mark.parametrize("fusion", ["post", "early"])
@pytest.mark.parametrize("grains", ["", "word", "-bigram,-category"])
def test_the_weights_are_counted_as_the_model_has_them(
    simulated_shop: Any, fusion: str, grains: str
) -> None:
    config = TrainConfig(embedding_dim=6, attribute_dim=3, fusion=fusion, grains=grains)
    spec = schema.Manifest.read(simulated_shop.examples).features
    model = TwoTowerModel(spec, config, num_items=10)
    build(
        model,
        Featurizer(spec, read_vocabularies(simulated_shop.examples, spec.grains)),
    )
    found = sum(tf.size(v).numpy() for v in model.trainable_variables)
    logits = len(config.chosen_grains(spec)) if fusion == "post" else 0
    assert resources.num_weights(config, spec) + logits == found


def test_memory_of_tables_is_linear_in_vocabulary_and_dimensions() -> None:
    small, large = need(words=1_000_000).tables, need(words=2_000_000).tables
    larger = need(words=3_000_000).tables
    assert larger - large == large - small
    # A million vectors of 256 floats, and Adagrad's sums.
    assert large - small >= 2 * 1_000_000 * 256 * 4
    narrow, usual, wide = (
        need(TrainConfig(embedding_dim=dim), words=2_000_000).tables
        for dim in (128, 256, 384)
    )
    assert wide - usual == pytest.approx(usual - narrow, rel=0.01)


@pytest.mark.parametrize(
    "field",
    ["embedding_dim", "batch_size", "uniform_negatives", "synthetic_queries"],
)
def test_more_needs_more(field: str) -> None:
    usual = TrainConfig()
    more = dataclasses.replace(usual, **{field: 4 * getattr(usual, field)})
    assert need(more).total > need(usual).total
    assert need(more).process == need(usual).process


def test_a_catalogue_smaller_than_a_batch_bounds_its_candidates() -> None:
    huge = TrainConfig(batch_size=100_000, uniform_negatives=1_000_000)
    assert need(huge, num_items=100).step < need(huge, num_items=10_000).step / 10


def test_disk_is_three_checkpoints_of_weights_and_sums_and_the_best() -> None:
    config, spec = TrainConfig(), manifest(words=1_000_000).features
    checkpoint = 2 * 4 * resources.num_weights(config, spec)
    for patience, kept in ((0, 3), (2, 4)):
        config = TrainConfig(patience=patience)
        need = resources.disk(config, spec)
        assert kept * checkpoint < need < kept * checkpoint + 10**8


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Checks a training on a machine with so much memory and disk, in bytes."""

    def check(*, memory: float, disk: float) -> None:
        monkeypatch.setattr(machine, "available_memory", lambda: int(memory))
        monkeypatch.setattr(machine, "available_disk", lambda _: int(disk))
        found = manifest(words=1_000_000)
        resources.check(TrainConfig(), found, RECORD_BYTES, tmp_path)

    return check


def test_what_is_needed_is_said_beside_what_is_there(
    check: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    check(memory=64e9, disk=100e9)
    total = need(words=1_000_000).total / 1e9
    assert (
        f"needs about {total:.1f} GB of memory (64.0 GB available) and 6.2 GB of disk (100.0 GB available)\n"
        == capsys.readouterr().err
    )


def test_what_certainly_does_not_fit_is_refused_by_the_fields_that_matter(
    check: Callable[..., None],
) -> None:
    total = need(words=1_000_000).total
    check(memory=0.8 * total, disk=100e9)  # the estimate may be too high
    with pytest.raises(
        CommandError,
        match=r"and 2\.0 GB are available: .* \(embedding_dim 256, vocabularies of 1,000,100 entries\), "
        r".* for a step \(batch_size 1024, uniform_negatives 1024, synthetic_queries 512\)",
    ):
        check(memory=2e9, disk=100e9)
    with pytest.raises(
        CommandError,
        match=r"needs 6\.2 GB of disk for its checkpoints and 5\.0 GB are free",
    ):
        check(memory=64e9, disk=5e9)


def test_disk_that_the_run_itself_holds_counts_as_free(
    check: Callable[..., None], tmp_path: Path
) -> None:
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(2_000_000_000)
    check(memory=64e9, disk=5e9)


def test_memory_that_does_not_suffice_after_all_is_one_sentence() -> None:
    with (
        pytest.raises(CommandError, match=r"memory does not suffice .*batch_size 1024"),
        resources.naming_shortage(TrainConfig()),
    ):
        tf.zeros([1 << 40, 1 << 10])


PROGRAM = """
import sys
from pathlib import Path
from benchmarks.machine import peak_memory
from tfrs_mmse import resources, train
total = []
memory = resources.memory
resources.memory = lambda *args: total.append(memory(*args).total) or memory(*args)
assert train.main(sys.argv[1:]) == 0
print(peak_memory() / total[0], file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dim", [16, 1024])
def test_a_real_run_peaks_near_its_estimate(
    simulated_shop: Any, tmp_path: Path, dim: int
) -> None:
    flags = ["--data", str(simulated_shop.examples), "--model-dir", str(tmp_path)]
    for setting in ("grains=word,category", f"embedding_dim={dim}", "epochs=1"):
        flags += ["--set", setting]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["epochs"] == 1
    # Loose: versions of TensorFlow and numbers of cores differ in what every training needs.
    assert 0.6 < float(ran.stderr.splitlines()[-1]) < 1.4
