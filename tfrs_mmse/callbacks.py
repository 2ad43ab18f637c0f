"""What happens around the steps of a training: the log, the checkpoint, the progress bar."""

import json
import math
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError


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
            self._path.read_text(encoding="utf-8").splitlines()
            if self._path.exists()
            else []
        )
        entries = [
            entry for line in lines if (entry := json.loads(line))["epoch"] <= keep
        ]
        self._path.write_text(
            "".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8"
        )
        self.last: dict[str, float] = entries[-1] if entries else {}
        self._writer = tf.summary.create_file_writer(str(model_dir / "tensorboard"))

    def append(self, epoch: int, values: dict[str, float]) -> None:
        """Adds an epoch's values; epochs count from 1."""
        self.last = {"epoch": epoch, **values}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.last) + "\n")
        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()


class EndOfEpoch(tf.keras.callbacks.Callback):
    """Checks, logs and saves a completed epoch."""

    def __init__(
        self, log: MetricsLog, manager: tf.train.CheckpointManager, epoch: tf.Variable
    ) -> None:
        """Args:
        log: Takes the epoch's metrics.
        manager: Saves the checkpoint.
        epoch: Scalar int64 that the checkpoint holds: completed epochs.
        """
        super().__init__()
        self._log, self._manager, self._epoch = log, manager, epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras counts from 0 here; people count from 1."""
        weights = self.model.query_tower.fusion_weights_by_grain()
        # TFRS logs its own sums as well, of the last batch only; ours are means of the epoch.
        values = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name in ("retrieval_loss", "ranking_loss")
        }
        if not all(math.isfinite(value) for value in values.values()):
            raise CommandError(
                f"the loss became {values} in epoch {epoch + 1}: lower learning_rate or raise temperature; "
                f"the checkpoint after epoch {epoch} is kept"
            )
        # Log first: an entry without its checkpoint is dropped when the run continues, one that is missing stays so.
        self._log.append(
            epoch + 1,
            values | {f"fusion/{name}": weight for name, weight in weights.items()},
        )
        self._epoch.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)


class ProgressBar(tf.keras.callbacks.Callback):
    """One bar an epoch on stderr; Keras's own writes to stdout, which belongs to the result."""

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        """Args:
        steps_per_epoch: Length of the bar.
        epochs: For the label.
        """
        super().__init__()
        self._steps, self._epochs = steps_per_epoch, epochs
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the bar."""
        self._bar = tqdm(
            total=self._steps,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            unit="step",
            mininterval=1.0,
        )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Moves the bar on."""
        if self._bar is not None:
            self._bar.set_postfix(
                loss=f"{(logs or {}).get('loss', math.nan):.4f}", refresh=False
            )
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
