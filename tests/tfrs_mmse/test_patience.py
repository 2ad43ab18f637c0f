"""When a training is over, from the validation recall of its epochs."""

from pathlib import Path

import pytest

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.early_stopping import RECALL, EarlyStopping


def stopping(recalls: list[float], patience: int) -> EarlyStopping:
    entries = [{"epoch": i + 1, RECALL: r} for i, r in enumerate(recalls)]
    config = TrainConfig(patience=patience)
    return EarlyStopping(config, entries, epochs_done=len(recalls), model_dir=Path())


@pytest.mark.parametrize(
    ("recalls", "best", "is_over"),
    [
        ([], 0, False),
        ([0.0], 1, False),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.1, 0.3, 0.2, 0.25], 2, True),
        # As good is not better.
        ([0.3, 0.3, 0.3], 1, True),
        # Whoever is better in time has all of the patience again.
        ([0.3, 0.2, 0.4, 0.1], 3, False),
    ],
)
def test_with_a_patience_of_two_epochs(
    recalls: list[float], best: int, is_over: bool
) -> None:
    judged = stopping(recalls, 2)
    assert (judged.best_epoch, judged.is_over) == (best, is_over)


def test_epochs_that_are_added_later_count() -> None:
    entries = [{"epoch": 1.0, RECALL: 0.3}]
    judged = EarlyStopping(
        TrainConfig(patience=1), entries, epochs_done=1, model_dir=Path()
    )
    entries.append({"epoch": 2.0, RECALL: 0.2})
    assert judged.is_over


def test_without_patience_it_is_never_over() -> None:
    entries = [{"epoch": float(i)} for i in range(9)]
    judged = EarlyStopping(TrainConfig(), entries, epochs_done=9, model_dir=Path())
    assert not judged.is_over and judged.best_epoch == 0


def test_lost_metrics_are_told() -> None:
    with pytest.raises(
        CommandError, match=r"of 3 epochs in the metrics of run, found 1: bring"
    ):
        EarlyStopping(
            TrainConfig(patience=1),
            [{"epoch": 1, RECALL: 0.1}],
            epochs_done=3,
            model_dir=Path("run"),
        )
