"""`python -m tfrs_mmse.train` on examples of the simulated shop."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beam import preprocess
from tests.tfrs_mmse.runs import arguments, metrics
from tfrs_mmse import model, restore, run_directory, schema, tasks, train


def fails_with(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert train.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(f"^error: .*{message}.*\n$", err.splitlines(keepends=True)[-1]), (
        err
    )


@pytest.mark.parametrize("preset", ["mmse", "two_tower"])
def test_training_writes_a_run_and_lowers_the_loss(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], preset: str
) -> None:
    data = simulated_shop.examples
    assert train.main(arguments(data, tmp_path / "run", "epochs=4", preset=preset)) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert "the training data has no" not in captured.err
    weighs = "an ordered item weighs as much as" in captured.err
    assert weighs == (preset == "mmse")
    log = metrics(tmp_path / "run")
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4]
    assert log[3]["retrieval_loss"] < log[0]["retrieval_loss"]
    assert summary["metrics"] == log[3]
    assert summary["preset"] == preset
    if preset == "mmse":
        assert log[3]["ranking_loss"] < log[0]["ranking_loss"]
        assert sum(
            value for name, value in log[3].items() if name.startswith("fusion/")
        ) == pytest.approx(1)
    saved = run_directory.read(tmp_path / "run")
    assert saved["config"]["preset"] == preset
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def falls(model_dir: Path) -> bool:
    """Whether every loss that is trained is lower in the last epoch than in the first."""
    first, last = metrics(model_dir)[0], metrics(model_dir)[-1]
    names = [name for name in first if name.endswith("_loss") and first[name] > 0]
    return all(last[name] < first[name] for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        "cold_start",
        "dpsr",
        "mgdspr",
        "mmse_with_ranking_listwise",
        "mmse_without_unclicked",
    ],
)
def test_presets_whose_graphs_differ_learn(
    simulated_shop: Any, tmp_path: Path, preset: str
) -> None:
    settings = ["epochs=4", "batch_size=16"]
    data = simulated_shop.examples
    assert train.main(arguments(data, tmp_path, *settings, preset=preset)) == 0
    assert falls(tmp_path)
    restore.load_trained(data, tmp_path)


def test_a_log_of_clicks_alone_trains_and_says_once_what_is_absent(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gzip.open(simulated_shop.events, "rt") as file:
        events = [json.loads(line) for line in file]
    clicks = {(e["request_id"], e["item_id"]) for e in events if e["event"] == "click"}
    kept = [
        e
        for e in events
        if e["event"] != "order" and (e["request_id"], e["item_id"]) in clicks
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in kept))
    source = ["--events", str(tmp_path / "events.jsonl")]
    source += ["--items", str(simulated_shop.items), "--output", str(tmp_path / "data")]
    assert preprocess.main(source) == 0
    capsys.readouterr()
    assert train.main(arguments(tmp_path / "data", tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert said.count("the training data has no ordered items") == 1
    assert said.count("the training data has no unclicked items") == 1
    assert said.count("the ranking loss has nothing to compare") == 1
    assert falls(tmp_path / "run")


def test_equal_seeds_give_equal_runs_and_other_seeds_others(
    simulated_shop: Any, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert (
            train.main(
                arguments(simulated_shop.examples, tmp_path / name, f"seed={seed}")
            )
            == 0
        )
    a, b, c = (metrics(tmp_path / name)[-1]["retrieval_loss"] for name in "abc")
    assert a == b
    assert abs(a - c) > 1e-3


def test_a_directory_with_another_config_is_refused(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        train.main(arguments(simulated_shop.examples, tmp_path / "run", "epochs=1"))
        == 0
    )
    capsys.readouterr()
    other = arguments(
        simulated_shop.examples, tmp_path / "run", "epochs=1", "learning_rate=0.2"
    )
    fails_with(
        capsys, other, r"holds a run with another config \(learning_rate 0.1 -> 0.2\)"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "learning_rate=1e20",
            "the loss became nan at step 2, in epoch 1, most likely because learning_rate 1e\\+20 is too high: "
            ".*; there is no checkpoint yet",
        ),
        (
            "temperature=1e-38",
            "the loss became nan at step 1, in epoch 1, most likely because temperature 1e-38 is too low",
        ),
    ],
)
def test_a_loss_that_is_no_number_stops_training_at_its_step(
    simulated_shop: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    message: str,
) -> None:
    argv = arguments(simulated_shop.examples, tmp_path / "run", setting)
    fails_with(capsys, argv, message)
    assert metrics(tmp_path / "run") == []


@pytest.mark.slow
def test_a_diverging_loss_stops_training_and_keeps_the_last_checkpoint(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["grains=", "learning_rate=1e6", "batch_size=8", "epochs=30"]
    fails_with(
        capsys,
        arguments(simulated_shop.examples, tmp_path, *settings),
        r"the loss diverges, from \S+ at the start to a mean of \S+, at step \d+, in epoch \d+, "
        r"most likely because learning_rate 1e\+06 is too high: .*; ckpt-\d+ is kept",
    )
    restore.load_trained(simulated_shop.examples, tmp_path)


def test_what_an_order_weighs_reaches_both_objectives(
    simulated_shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, float] = {}

    def watched(task: Any) -> Any:
        def build(*args: Any, ordered_weight: float, **other: Any) -> Any:
            built[task.__name__] = ordered_weight
            return task(*args, ordered_weight=ordered_weight, **other)

        return build

    for task in (tasks.LevelRetrieval, tasks.LevelRanking):
        monkeypatch.setattr(model, task.__name__, watched(task))
    counts = schema.Manifest.read(simulated_shop.examples).splits[schema.TRAIN]
    argv = arguments(simulated_shop.examples, tmp_path, "epochs=1", "ordered_share=0.4")
    assert train.main(argv) == 0
    # 0.4 of the weight against 0.6: two thirds of the ratio of their numbers.
    weight = counts["clicked"] / counts["ordered"] * 2 / 3
    assert built == pytest.approx({"LevelRetrieval": weight, "LevelRanking": weight})
    assert 1 < weight < 10


def test_a_setting_that_needs_an_absent_level_is_refused_before_anything_is_written(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((simulated_shop.examples / schema.MANIFEST).read_text())
    del manifest["splits"]["train"]["ordered"]
    (tmp_path / schema.MANIFEST).write_text(json.dumps(manifest))
    fails_with(
        capsys,
        arguments(tmp_path, tmp_path / "run", "ordered_share=0.8"),
        "ordered_share is set to 0.8, but the training data has no ordered items",
    )
    assert not (tmp_path / "run").exists()


def test_missing_examples_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_with(
        capsys,
        arguments(tmp_path / "none", tmp_path / "run"),
        "but there is no manifest.json",
    )


def test_examples_of_another_format_version_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / schema.MANIFEST).write_text('{"format_version": 99}')
    fails_with(
        capsys,
        arguments(tmp_path, tmp_path / "run"),
        "is of format version 99, this program reads version 2",
    )


def test_a_run_of_another_format_version_is_refused(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / schema.CONFIG).write_text('{"format_version": 0}')
    fails_with(
        capsys,
        arguments(simulated_shop.examples, tmp_path),
        "is of format version 0, this program reads version 2",
    )


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {},
            "holds no training requests: run `python -m beam.preprocess` with --events, or learn from the catalogue "
            "alone with --preset cold_start",
        ),
        (
            {"train": {"requests": 5, "unclicked": 9}},
            "holds no clicked or ordered item in its training requests",
        ),
    ],
)
def test_data_without_anything_to_learn_from_is_refused(
    simulated_shop: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    splits: dict[str, Any],
    message: str,
) -> None:
    manifest = json.loads((simulated_shop.examples / schema.MANIFEST).read_text())
    (tmp_path / schema.MANIFEST).write_text(json.dumps(manifest | {"splits": splits}))
    fails_with(capsys, arguments(tmp_path, tmp_path / "run"), message)


def test_a_grain_that_the_data_lacks_is_refused_before_anything_is_written(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(simulated_shop.examples, tmp_path / "run", "grains=word,smell")
    fails_with(
        capsys, argv, "grains names smell, but the data has word, bigram, character"
    )
    assert not (tmp_path / "run").exists()


def test_a_model_is_restored_as_it_was_trained(
    simulated_shop: Any, tmp_path: Path
) -> None:
    from numpy.testing import assert_array_equal

    assert train.main(arguments(simulated_shop.examples, tmp_path / "run")) == 0
    first, second = (
        restore.load_trained(simulated_shop.examples, tmp_path / "run")
        for _ in range(2)
    )
    ids = first.featurizer.query(tf.constant(["red cotton shirt"]))
    assert_array_equal(
        first.model.query_embedding(ids), second.model.query_embedding(ids)
    )
    logged = metrics(tmp_path / "run")[-1]
    for grain, weight in first.model.query_tower.fusion_weights_by_grain().items():
        assert logged[f"fusion/{grain}"] == pytest.approx(weight)


def test_a_model_does_not_load_with_other_vocabularies(
    simulated_shop: Any, tmp_path: Path
) -> None:
    assert (
        train.main(arguments(simulated_shop.examples, tmp_path / "run", "epochs=1"))
        == 0
    )
    saved = json.loads((tmp_path / "run" / schema.CONFIG).read_text())
    (tmp_path / "run" / schema.CONFIG).write_text(
        json.dumps(saved | {"vocabulary_hash": "0" * 64})
    )
    with pytest.raises(
        restore.CommandError,
        match=r"was trained with vocabularies 000000000000, but .* holds",
    ):
        restore.load_trained(simulated_shop.examples, tmp_path / "run")


def test_a_run_without_checkpoint_says_so(simulated_shop: Any, tmp_path: Path) -> None:
    assert (
        train.main(arguments(simulated_shop.examples, tmp_path / "run", "epochs=1"))
        == 0
    )
    for file in (tmp_path / "run" / schema.CHECKPOINTS).iterdir():
        file.unlink()
    with pytest.raises(restore.CommandError, match="holds no checkpoint yet"):
        restore.load_trained(simulated_shop.examples, tmp_path / "run")
