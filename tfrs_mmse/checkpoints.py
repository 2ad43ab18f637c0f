"""The checkpoints of a model directory: each is whole or not there, and the newest that can be read is what counts."""

import re
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, first_line, say

_KEPT = 2  # so that there is one before the newest
# TensorFlow writes the index last, under another name until it is whole.
_INDEX = re.compile(r"ckpt-(\d+)\.index")
# What it raises for files that are cut off or changed.
_BROKEN = (tf.errors.OpError, IndexError, ValueError)


def saved(model_dir: Path) -> list[Path]:
    """The paths of a directory's checkpoints as TensorFlow wants them, without an ending; the newest last."""
    folder = model_dir / schema.CHECKPOINTS
    numbers = [
        int(match[1])
        for path in folder.glob("ckpt-*.index")
        if (match := _INDEX.fullmatch(path.name))
    ]
    return [folder / f"ckpt-{number}" for number in sorted(numbers)]


def kept(model_dir: Path) -> str:
    """What there is to go on from, for the end of a sentence."""
    paths = saved(model_dir)
    return f"{paths[-1].name} is kept" if paths else "there is no checkpoint yet"


class Checkpoints:
    """Saves and restores all that a training goes on from."""

    def __init__(self, model_dir: Path, **objects: Any) -> None:
        """Args:
        model_dir: The run's directory.
        **objects: What is saved; `restore` brings it back.
        """
        self._model_dir = model_dir
        self._folder = model_dir / schema.CHECKPOINTS
        self._checkpoint = tf.train.Checkpoint(**objects)
        self._broken: set[str] = set()

    def restore(self) -> Path | None:
        """Restores the newest checkpoint, or the one before it if that cannot be read, and says so.

        Returns:
            Its path; None if there is no checkpoint yet.

        Raises:
            CommandError: there are some, and none can be read; or they are of another version of this program.
        """
        for path in reversed(saved(self._model_dir)):
            try:
                status = self._checkpoint.read(str(path))
                status.assert_existing_objects_matched().expect_partial()
            except _BROKEN as e:
                self._broken.add(path.name)
                say(f"the checkpoint {path} cannot be read ({first_line(e)})")
            except AssertionError:
                raise CommandError(
                    f"the checkpoint {path} was saved by another version of this program: give another --model-dir"
                ) from None
            else:
                return path
        if self._broken:
            names = ", ".join(sorted(self._broken))
            raise CommandError(
                f"none of the checkpoints in {self._folder} can be read ({names}): remove that directory to train from "
                "the beginning"
            )
        return None

    def save(self, step: int) -> None:
        """Saves what the training has come to after that many steps, and removes what is older than the one before.

        Raises:
            CommandError: the disk does not take it; the checkpoints that are there stay.
        """
        self._keep()
        try:
            self._folder.mkdir(exist_ok=True)
            path = self._checkpoint.write(str(self._folder / f"ckpt-{step}"))
            self._broken.discard(Path(path).name)
            self._point_to(Path(path).name)
        except (OSError, tf.errors.OpError) as e:
            self._keep()
            raise CommandError(
                f"cannot save a checkpoint of step {step} into {self._folder} ({first_line(e)}): make room and run the "
                f"same command again; {kept(self._model_dir)}"
            ) from None
        self._keep()

    def _point_to(self, name: str) -> None:
        """Names the newest for programs that look for it by `tf.train.latest_checkpoint`."""
        pointer = self._folder / "checkpoint"
        pointer.with_suffix(".part").write_text(f'model_checkpoint_path: "{name}"\n')
        pointer.with_suffix(".part").replace(pointer)

    def _keep(self) -> None:
        """Removes all but the newest checkpoints that can be read, and what a save that was cut short has left."""
        names = [path.name for path in saved(self._model_dir)]
        kept = {*[name for name in names if name not in self._broken][-_KEPT:]}
        for path in self._folder.glob("ckpt-*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.partition(".")[0] not in kept:
                path.unlink()
