"""What a training tells while it goes on: to a person and to a program."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from tfrs_mmse import schema
from tfrs_mmse.cli import say
from tfrs_mmse.early_stopping import RECALL

_LEARNING_RATE = "learning_rate"
# What a person is told of, and how it is called then.
_SHORT = {
    "retrieval_loss": "retrieval",
    "ranking_loss": "ranking",
    _LEARNING_RATE: "lr",
    RECALL: "recall@10",
}


class MetricsLog:
    """`metrics.jsonl`: one entry for each completed epoch.

    Attributes:
        entries: Of all epochs so far.
    """

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
        self.entries: list[dict[str, float]] = [json.loads(line) for line in lines]

    @property
    def last(self) -> dict[str, float]:
        """The last epoch's entry; empty before the first."""
        return self.entries[-1] if self.entries else {}

    def append(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds an epoch's values; epochs count from 1."""
        self.entries.append({"epoch": epoch, **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.entries[-1]) + "\n")


class ProgressBar:
    """One bar for the whole training on stderr; a line an epoch, with the same content, where nobody watches."""

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
        self._done, self._num_steps = done, num_steps
        self._steps_per_epoch = steps_per_epoch
        self._num_epochs = num_steps // steps_per_epoch
        self._started = time.monotonic()
        self._is_watched = sys.stderr.isatty()
        self._bar = tqdm(
            initial=done,
            total=num_steps,
            unit=" step",
            mininterval=0.5,
            dynamic_ncols=True,
            # A narrow terminal cuts off what stands to the right: there the picture comes last.
            bar_format="{desc} {percentage:.0f}% {rate_noinv_fmt} {remaining} left{postfix} {bar:20}",
            disable=is_quiet or not self._is_watched,
        )

    def after_step(
        self,
        step: int,
        losses: Mapping[str, float],
        *,
        learning_rate: float,
        recall: float | None = None,
    ) -> None:
        """Moves the bar on.

        Args:
            step: Steps done, this one among them.
            losses: Means of the epoch so far, by name.
            learning_rate: Of this step.
            recall: Validation recall after the last epoch that is done, if it is measured.
        """
        epoch = (step - 1) // self._steps_per_epoch + 1
        # A narrow terminal cuts off what changes least.
        measured = {} if recall is None else {RECALL: recall}
        text = shown({**losses, **measured, _LEARNING_RATE: learning_rate})
        if self._is_watched:
            self._bar.set_description_str(
                f"epoch {epoch}/{self._num_epochs}", refresh=False
            )
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif step % self._steps_per_epoch == 0 and not self._is_quiet:
            elapsed = max(time.monotonic() - self._started, 1e-9)
            rate = (step - self._done) / elapsed
            left = tqdm.format_interval((self._num_steps - step) / rate)
            say(
                f"epoch {epoch}/{self._num_epochs}: {text}, {rate:.1f} steps/s, {left} left"
            )

    def close(self) -> None:
        """Ends the bar, whether or not the training is done."""
        self._bar.close()


def shown(values: Mapping[str, float]) -> str:
    """Figures for a person, in one line; those that only programs look at are left out."""
    named = ((_SHORT.get(name), value) for name, value in values.items())
    return ", ".join(f"{name} {value:.4g}" for name, value in named if name)
