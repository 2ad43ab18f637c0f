"""Early stopping: which epoch was the best so far, and whether there is still something to wait for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig

RECALL = (
    "validation_recall@10"  # in an epoch's entry of the metrics, and in TensorBoard
)


def best_epoch(recalls: Sequence[float]) -> int:
    """Number, from 1, of the first epoch with the highest recall; 0 before the first epoch."""
    return recalls.index(max(recalls)) + 1 if recalls else 0


class EarlyStopping:
    """Judges by what is on record of the epochs that are done, so a training that goes on judges alike.

    Attributes:
        is_on: Whether there is anything to judge by; if not, no epoch is the best one and the training never over.
    """

    def __init__(
        self,
        config: TrainConfig,
        entries: Sequence[Mapping[str, float]],
        *,
        epochs_done: int,
        model_dir: Path,
    ) -> None:
        """Args:
        config: The training config.
        entries: The metrics of each epoch; grows as the training goes on.
        epochs_done: Epochs behind the checkpoint that the training goes on from.
        model_dir: The run's directory, for the message.

        Raises:
            CommandError: the metrics of an epoch are lost.
        """
        self.is_on = config.patience > 0
        self._patience, self._entries = config.patience, entries
        if self.is_on and len(self._recalls) != epochs_done:
            raise CommandError(
                f"expected the {RECALL} of {epochs_done} epochs in the metrics of {model_dir}, found "
                f"{len(self._recalls)}: bring the file back, or train into another --model-dir"
            )

    @property
    def best_epoch(self) -> int:
        """Number, from 1, of the best epoch so far; 0 if there is none."""
        return best_epoch(self._recalls)

    @property
    def is_over(self) -> bool:
        """Whether the last `patience` epochs were all no better than one before them."""
        return self.is_on and len(self._recalls) - self.best_epoch >= self._patience

    @property
    def _recalls(self) -> list[float]:
        return [entry[RECALL] for entry in self._entries if RECALL in entry]
