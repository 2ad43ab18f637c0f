"""What a training tells while it goes on: to a person, to a program, and to TensorBoard."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from tfrs_mmse import schema
from tfrs_mmse.cli import say


class MetricsLog:
    """`metrics.jsonl` and TensorBoard: one entry for each completed epoch."""

    def __init__(self, model_dir: Path, *, keep: int) -> None:
        """Opens the log.

        Args:
            model_dir: The run's directory.
            keep: Epochs whose entries stay; later ones are of an epoch that was cut short and is done again.
        """
        self._path = model_dir / schema.METRICS
        lines = (
            self._path.read_text(encoding="utf-8").splitlines()[:keep]
            if self._path.exists()
            else []
        )
        # Aside first: a kill at this moment must not cost the entries.
        part = self._path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(self._path)
        entries = [json.loads(line) for line in lines]
        self.last: dict[str, float] = entries[-1] if entries else {}
        self._writer = tf.summary.create_file_writer(str(model_dir / "tensorboard"))

    def append(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds an epoch's values; epochs count from 1."""
        self.last = {"epoch": epoch, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.last) + "\n")
        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()


class ProgressBar:
    """One bar for the whole training on stderr, with rate and remaining time; a line an epoch where nobody watches."""

    def __init__(
        self, *, done: int, num_steps: int, steps_per_epoch: int, is_quiet: bool = False
    ) -> None:
        """Args:
        done: Steps that are done already.
        num_steps: Of the whole training.
        steps_per_epoch: Length of an epoch.
        is_quiet: Whether another process tells it.
        """
        self._is_quiet = is_quiet
        self._steps_per_epoch = steps_per_epoch
        self._num_epochs = num_steps // steps_per_epoch
        self._is_watched = sys.stderr.isatty()
        self._bar = tqdm(
            initial=done,
            total=num_steps,
            unit="step",
            mininterval=1.0,
            dynamic_ncols=True,
            disable=is_quiet or not self._is_watched,
        )

    def after_step(self, step: int, losses: Mapping[str, float]) -> None:
        """Moves the bar on.

        Args:
            step: Steps done, this one among them.
            losses: Means of the epoch so far, by name.
        """
        epoch = (step - 1) // self._steps_per_epoch + 1
        self._bar.set_description(f"epoch {epoch}/{self._num_epochs}", refresh=False)
        self._bar.set_postfix_str(_shown(losses), refresh=False)
        self._bar.update()
        is_end = step % self._steps_per_epoch == 0
        if is_end and not self._is_watched and not self._is_quiet:
            say(f"epoch {epoch}/{self._num_epochs}: {_shown(losses)}")

    def close(self) -> None:
        """Ends the bar, whether or not the training is done."""
        self._bar.close()


def _shown(losses: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.removesuffix('_loss')} {loss:.4f}" for name, loss in losses.items()
    )
