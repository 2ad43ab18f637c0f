"""Checkpoints that were cut off, changed or did not fit on the disk: the newest that can be read is what counts."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.checkpoints import Checkpoints, kept, saved
from tfrs_mmse.cli import CommandError

DATA = "data-00000-of-00001"


class Run:
    """A training that is one table and a number."""

    def __init__(self, model_dir: Path) -> None:
        self.table, self.number = tf.Variable(tf.zeros([1000, 10])), tf.Variable(0)
        self.checkpoints = Checkpoints(model_dir, table=self.table, number=self.number)

    def save(self, step: int) -> None:
        self.number.assign(step)
        self.table.assign(tf.fill([1000, 10], float(step)))
        self.checkpoints.save(step)

    def is_at(self, step: int) -> bool:
        return int(self.number) == step and bool(tf.reduce_all(self.table == step))


def file(model_dir: Path, step: int, ending: str) -> Path:
    return model_dir / schema.CHECKPOINTS / f"ckpt-{step}.{ending}"


def names(model_dir: Path) -> list[str]:
    return [path.name for path in saved(model_dir)]


def test_the_newest_is_restored_and_the_one_before_it_is_kept(tmp_path: Path) -> None:
    assert Run(tmp_path).checkpoints.restore() is None
    run = Run(tmp_path)
    for step in (2, 9, 10):
        run.save(step)
    assert names(tmp_path) == ["ckpt-9", "ckpt-10"]
    later = Run(tmp_path)
    path = later.checkpoints.restore()
    assert path == saved(tmp_path)[-1] and later.is_at(10)
    # For other programs.
    assert tf.train.latest_checkpoint(str(tmp_path / schema.CHECKPOINTS)) == str(path)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("ending", ["index", DATA])
@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_of_a_broken_checkpoint_the_one_before_is_restored_and_that_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ending: str,
    damage: Callable[[bytes], bytes],
) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    path = file(tmp_path, 2, ending)
    path.write_bytes(damage(path.read_bytes()))
    later = Run(tmp_path)
    assert later.checkpoints.restore() == saved(tmp_path)[0] and later.is_at(1)
    said = capsys.readouterr().err
    assert said.startswith(f"the checkpoint {saved(tmp_path)[1]} cannot be read (")
    assert said.count("\n") == 1 and "{{" not in said
    # It is done again, and takes the place of the broken one.
    later.save(2)
    assert Run(tmp_path).checkpoints.restore() == saved(tmp_path)[1]


def test_two_that_can_be_read_are_kept_beside_a_broken_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10)
    run.save(20)
    file(tmp_path, 20, DATA).write_bytes(b"")
    later = Run(tmp_path)
    later.checkpoints.restore()
    later.save(11)
    assert names(tmp_path) == ["ckpt-10", "ckpt-11"]


def test_what_there_is_to_go_on_from_is_said(tmp_path: Path) -> None:
    assert kept(tmp_path) == "there is no checkpoint yet"
    Run(tmp_path).save(7)
    assert kept(tmp_path) == "ckpt-7 is kept"


def test_a_missing_file_is_a_broken_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    file(tmp_path, 2, DATA).unlink()
    later = Run(tmp_path)
    later.checkpoints.restore()
    assert later.is_at(1)


def test_when_none_can_be_read_nothing_is_trained_over_them(tmp_path: Path) -> None:
    Run(tmp_path).save(1)
    file(tmp_path, 1, DATA).write_bytes(b"")
    with pytest.raises(
        CommandError, match=r"none of the checkpoints .*\(ckpt-1\): remove"
    ):
        Run(tmp_path).checkpoints.restore()


def test_a_lost_or_broken_pointer_loses_no_checkpoint(tmp_path: Path) -> None:
    Run(tmp_path).save(3)
    pointer = tmp_path / schema.CHECKPOINTS / "checkpoint"
    for damage in (pointer.unlink, lambda: pointer.write_text("?")):
        damage()
        later = Run(tmp_path)
        assert later.checkpoints.restore() and later.is_at(3)


def test_what_a_killed_save_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    (tmp_path / schema.CHECKPOINTS / "ckpt-2_temp").mkdir()
    file(tmp_path, 2, DATA).write_bytes(b"half")
    later = Run(tmp_path)
    assert later.checkpoints.restore() == saved(tmp_path)[0]
    later.save(3)
    left = {path.name for path in (tmp_path / schema.CHECKPOINTS).iterdir()}
    assert left == {
        "checkpoint",
        *(f"ckpt-{step}.{ending}" for step in (1, 3) for ending in ("index", DATA)),
    }


def test_a_full_disk_is_one_sentence_and_costs_no_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.save(2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            CommandError,
            match=r"cannot save a checkpoint of step 3 .*File too large.* ckpt-2 is kept",
        ):
            run.save(3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["ckpt-1", "ckpt-2"]
    later = Run(tmp_path)
    later.checkpoints.restore()
    assert later.is_at(2)


def test_a_checkpoint_of_other_variables_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, other=tf.Variable(1)).save(1)
    with pytest.raises(CommandError, match="saved by another version of this program"):
        Run(tmp_path).checkpoints.restore()
