"""What is told at the end of a training."""

from pathlib import Path
from typing import Any

from tfrs_mmse.config import TrainConfig
from tfrs_mmse.early_stopping import RECALL
from tfrs_mmse.summary import Outcome


def entry(epoch: int, recall: float | None = None) -> dict[str, float]:
    values = {"epoch": epoch, "retrieval_loss": 4.0 / epoch, "ranking_loss": 0.5}
    return values if recall is None else values | {RECALL: recall}


def outcome(entries: list[dict[str, float]], best: int, **settings: Any) -> Outcome:
    return Outcome(
        TrainConfig(**settings),
        Path("my examples"),
        Path("runs/lamps"),
        entries=entries,
        best_epoch=best,
        steps=40,
        steps_here=30,
        examples_here=30_000,
        seconds=12.34,
        stopped_early=0 < len(entries) < settings["epochs"],
        left_out={"shards": 0, "records": 0},
    )


def test_a_person_reads_how_it_went_and_what_to_do_next() -> None:
    entries = [entry(1), entry(2)]
    assert list(outcome(entries, 0, epochs=2).lines()) == [
        "trained 30 steps in 12 s, 2,431 examples a second",
        "epoch 2, the last: retrieval 2, ranking 0.5",
        "the model is in runs/lamps, each epoch's figures in runs/lamps/metrics.jsonl",
        "next:",
        "  python -m tfrs_mmse.evaluate --data 'my examples' --model-dir runs/lamps",
        "  python -m serving.export --data 'my examples' --model-dir runs/lamps --output models/lamps",
        "  tensorboard --logdir runs/lamps/tensorboard",
        "hint: --set patience=2 holds queries out, and tells which epoch was the best",
    ]


def test_a_training_that_stopped_early_says_so_and_what_suffices() -> None:
    entries = [entry(1, 0.5), entry(2, 0.4), entry(3, 0.4)]
    lines = list(outcome(entries, 1, epochs=9, patience=2).lines())
    assert lines[1:5] == [
        "stopped after epoch 3 of 9: the validation recall has not risen for 2 epochs",
        "epoch 3, the last: retrieval 1.333, ranking 0.5, recall@10 0.4",
        "epoch 1, the best: retrieval 4, ranking 0.5, recall@10 0.5",
        "the model of epoch 1 is in runs/lamps, each epoch's figures in runs/lamps/metrics.jsonl",
    ]
    assert "--set epochs=1 --set patience=0" in lines[-1]


def test_if_the_last_epoch_was_the_best_more_may_be_better() -> None:
    entries = [entry(1, 0.4), entry(2, 0.5)]
    *_, hint = outcome(entries, 2, epochs=2, patience=2).lines()
    assert hint.startswith("hint: the best epoch was the last one")
    assert "--set epochs=4" in hint


def test_where_no_rule_is_sound_there_is_no_hint() -> None:
    entries = [entry(1, 0.4), entry(2, 0.5), entry(3, 0.4)]
    for made in (
        outcome(entries, 2, epochs=3, patience=2),
        outcome([entry(1)], 0, epochs=1, use_log=False),
    ):
        assert not any(line.startswith("hint") for line in made.lines())


def test_a_program_reads_the_same() -> None:
    entries = [entry(1, 0.5), entry(2, 0.4)]
    assert outcome(entries, 1, epochs=9, patience=1).result() == {
        "model_dir": "runs/lamps",
        "preset": "mmse",
        "epochs": 9,
        "steps": 40,
        "left_out": {"shards": 0, "records": 0},
        "seconds": 12.3,
        "examples_per_second": 2431.1,
        "stopped_early": True,
        "metrics": entry(2, 0.4),
        "best": entry(1, 0.5),
    }


def test_lost_metrics_are_no_early_stop() -> None:
    made = outcome([], 0, epochs=3)
    assert made.result()["metrics"] == {} and not made.result()["stopped_early"]
    assert not any("the last:" in line for line in made.lines())
