"""The checkpoints of a model directory: each is whole or not there, and the newest that can be read is what counts."""

import re
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, first_line, say

_KEPT = 2  # so that there is one before the newest
_BEST = "best"  # beside the checkpoints: a file with the name of one of them
# TensorFlow writes the index last, under another name until it is whole.
_INDEX = re.compile(r"ckpt-(\d+)\.index")
_NAME = re.compile(r"ckpt-\d+")
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


def best(model_dir: Path) -> Path | None:
    """The path of the checkpoint that is marked as the best, whole or not; None if there is no mark."""
    mark = model_dir / schema.CHECKPOINTS / _BEST
    if not mark.exists():
        return None
    name = mark.read_text(encoding="utf-8").strip()
    return mark.with_name(name) if _NAME.fullmatch(name) else None


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
        return self._restore_first(saved(self._model_dir)[::-1])

    def restore_best(self) -> Path | None:
        """Restores the checkpoint that is marked as the best, and otherwise as `restore` does.

        If the marked one cannot be read, that is said.
        """
        marked = best(self._model_dir)
        others = [path for path in saved(self._model_dir)[::-1] if path != marked]
        return self._restore_first([marked, *others] if marked else others)

    def _restore_first(self, paths: list[Path]) -> Path | None:
        for path in paths:
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

    def mark_best(self, step: int) -> None:
        """Marks the checkpoint of that step as the best, which is then kept; does nothing if it is not there."""
        name = f"ckpt-{step}"
        if (self._folder / f"{name}.index").exists():
            self._write(_BEST, f"{name}\n")

    def _point_to(self, name: str) -> None:
        """Names the newest for programs that look for it by `tf.train.latest_checkpoint`."""
        self._write("checkpoint", f'model_checkpoint_path: "{name}"\n')

    def _write(self, name: str, text: str) -> None:
        part = self._folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(self._folder / name)

    def _keep(self) -> None:
        """Removes what is neither marked as the best nor among the newest checkpoints that can be read.

        So goes what a save that was cut short has left.
        """
        names = [path.name for path in saved(self._model_dir)]
        kept = {*[name for name in names if name not in self._broken][-_KEPT:]}
        if marked := best(self._model_dir):
            kept.add(marked.name)
        for path in self._folder.glob("ckpt-*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.partition(".")[0] not in kept:
                path.unlink()
