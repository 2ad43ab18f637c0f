"""What a training tells at its end: to a program as a document, to a person as how it went and what to do next."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.progress import shown


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        config: Its config.
        data: Directory of examples.
        model_dir: The run's directory.
        entries: The metrics of each epoch.
        best_epoch: Number, from 1, of the epoch with the best validation recall; 0 if none was validated.
        steps: Steps that are done.
        steps_here: Those of them that this process took.
        examples_here: Requests, of the log or else synthetic ones, that it trained on.
        seconds: That it took, from the first step to the last checkpoint.
        stopped_early: Whether fewer epochs were trained than the config has.
        left_out: How many damaged `shards` and their `records` were not used.
    """

    config: TrainConfig
    data: Path
    model_dir: Path
    _: dataclasses.KW_ONLY
    entries: Sequence[Mapping[str, float]]
    best_epoch: int
    steps: int
    steps_here: int
    examples_here: float
    seconds: float
    stopped_early: bool
    left_out: Mapping[str, int]

    @property
    def last(self) -> Mapping[str, float]:
        """The metrics of the last epoch; empty if they are lost."""
        return self.entries[-1] if self.entries else {}

    @property
    def best(self) -> Mapping[str, float] | None:
        """The metrics of the best epoch."""
        return self.entries[self.best_epoch - 1] if self.best_epoch else None

    def result(self) -> dict[str, Any]:
        """For a program.

        `metrics` are the last epoch's, `best` those of the epoch that the model is of, or null where nothing was
        validated; `seconds`, and `examples_per_second` are this process's, the latter null if it trained nothing.
        """
        per_second = self.examples_here / self.seconds if self.steps_here else None
        return {
            "model_dir": str(self.model_dir),
            "preset": self.config.preset,
            "epochs": self.config.epochs,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "examples_per_second": None if per_second is None else round(per_second, 1),
            "stopped_early": self.stopped_early,
            "left_out": dict(self.left_out),
            "metrics": dict(self.last),
            "best": None if self.best is None else dict(self.best),
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield self._how_long()
        if self.stopped_early:
            yield (
                f"stopped after epoch {len(self.entries)} of {self.config.epochs}: the validation recall has not risen "
                f"for {self.config.patience} epochs"
            )
        if self.last:
            yield f"epoch {self.last['epoch']}, the last: {shown(self.last)}"
        if self.best is not None:
            yield f"epoch {self.best_epoch}, the best: {shown(self.best)}"
        which = f" of epoch {self.best_epoch}" if self.best_epoch else ""
        yield f"the model{which} is in {self.model_dir}, each epoch's figures in {self.model_dir / schema.METRICS}"
        yield "next:"
        for command in self._commands():
            yield f"  {shlex.join(command)}"
        if hint := self._hint():
            yield f"hint: {hint}"

    def _how_long(self) -> str:
        if not self.steps_here:
            return f"the training was finished already, after {self.steps} steps"
        return (
            f"trained {self.steps_here} steps in {self.seconds:.0f} s, "
            f"{self.examples_here / self.seconds:,.0f} examples a second"
        )

    def _commands(self) -> Iterator[list[str]]:
        given = ["--data", str(self.data), "--model-dir", str(self.model_dir)]
        yield ["python", "-m", "tfrs_mmse.evaluate", *given]
        yield [
            "python",
            "-m",
            "serving.export",
            *given,
            "--output",
            f"models/{self.model_dir.name}",
        ]
        yield ["tensorboard", "--logdir", str(self.model_dir / schema.TENSORBOARD)]

    def _hint(self) -> str:
        config = self.config
        if not config.use_log:
            return ""
        if not config.patience:
            return (
                "--set patience=2 holds queries out, and tells which epoch was the best"
            )
        if self.best_epoch == config.epochs:
            return (
                f"the best epoch was the last one: more may be better (--set epochs={2 * config.epochs}, into another "
                "--model-dir)"
            )
        if self.stopped_early:
            return (
                f"fewer epochs suffice: --set epochs={self.best_epoch} --set patience=0, into another --model-dir, "
                "also learns from the held-out queries"
            )
        return ""
