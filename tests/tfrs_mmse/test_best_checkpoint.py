"""The best checkpoint is kept beside the newest ones, marked, and what a trained model is made of."""

from pathlib import Path

import pytest
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.checkpoints import Checkpoints, best, saved


class Run:
    """A training that is one number."""

    def __init__(self, model_dir: Path) -> None:
        self.number = tf.Variable(0)
        self.checkpoints = Checkpoints(model_dir, number=self.number)

    def save(self, *steps: int) -> None:
        for step in steps:
            self.number.assign(step)
            self.checkpoints.save(step)


def restored(model_dir: Path) -> int:
    run = Run(model_dir)
    assert run.checkpoints.restore_best()
    return int(run.number)


def names(model_dir: Path) -> list[str]:
    return [path.name for path in saved(model_dir)]


def test_the_best_is_kept_and_restored_and_a_training_goes_on_from_the_newest(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    run.save(1, 2)
    run.checkpoints.mark_best(2)
    run.save(3, 4, 5)
    assert names(tmp_path) == ["ckpt-2", "ckpt-4", "ckpt-5"]
    assert restored(tmp_path) == 2
    later = Run(tmp_path)
    later.checkpoints.restore()
    assert int(later.number) == 5
    # Once there is a better one, the older goes.
    later.save(6)
    later.checkpoints.mark_best(6)
    later.save(7, 8)
    assert names(tmp_path) == ["ckpt-6", "ckpt-7", "ckpt-8"]


def test_without_a_mark_the_newest_is_restored(tmp_path: Path) -> None:
    Run(tmp_path).save(1, 2)
    assert best(tmp_path) is None
    assert restored(tmp_path) == 2


def test_what_is_not_there_is_not_marked(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.checkpoints.mark_best(0)  # before the first epoch
    run.save(1)
    run.checkpoints.mark_best(1)
    run.checkpoints.mark_best(9)
    assert best(tmp_path) == saved(tmp_path)[0]


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("is_there", [True, False])
def test_for_a_torn_best_one_the_newest_is_restored_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str, is_there: bool
) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.checkpoints.mark_best(1)
    run.save(2, 3)
    torn = tmp_path / schema.CHECKPOINTS / f"ckpt-1.{ending}"
    if is_there:
        torn.write_bytes(torn.read_bytes()[:9])
    else:
        torn.unlink()
    assert restored(tmp_path) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"the checkpoint {best(tmp_path)} cannot be read (")
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "ckpt-", "../ckpt-1", "ckpt-1 ckpt-2"])
def test_a_mark_that_names_no_checkpoint_is_none(tmp_path: Path, text: str) -> None:
    Run(tmp_path).save(1)
    (tmp_path / schema.CHECKPOINTS / "best").write_text(text)
    assert restored(tmp_path) == 1


def test_a_kill_before_the_mark_leaves_the_older_best_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.checkpoints.mark_best(1)
    run.save(2, 3)
    (tmp_path / schema.CHECKPOINTS / "best.part").write_text("ckpt-3")
    assert restored(tmp_path) == 1
