"""What happens around the steps of a training: the watch, the log, the checkpoint, the progress bar."""

import json
import math
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import SOFTMAX_LOSSES, TrainConfig

# Metrics of the model that are logged; TFRS adds its own sums, which are of the last batch only.
_LOGGED = ("retrieval_loss", "ranking_loss")


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
        self.first: dict[str, float] = entries[0] if entries else {}
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


class LossWatch(tf.keras.callbacks.Callback):
    """Stops a training that is past saving, at the step where it shows.

    A loss that is no finite number stops it at once. So does one that *diverges*: after 100 steps at the earliest, the
    mean retrieval loss of the epoch so far (of 100 steps, or of the whole epoch if that is shorter) is 1.2 times what
    it was for the untrained model, or for one that gives every item the same score, whichever is higher. The towers
    return unit vectors, so a ruined model's loss does not grow without end: it hovers above where it started, and
    thresholds far above that would never be reached. A healthy run is far below its start by then, whatever its
    temperature; the ranking loss, which comes in by and by, is left out.
    """

    _EARLIEST, _FACTOR = 100, 1.2

    def __init__(
        self,
        config: TrainConfig,
        *,
        steps_per_epoch: int,
        chance: float,
        former: float | None = None,
    ) -> None:
        """Args:
        config: The training config, for the likely cause.
        steps_per_epoch: Length of an epoch.
        chance: Retrieval loss of a model that gives every item the same score.
        former: The first epoch's retrieval loss, if that is over: what to compare with instead of the untrained
            model's.
        """
        super().__init__()
        self._config, self._chance = config, chance
        self._window = min(self._EARLIEST, steps_per_epoch)
        self._reference = None if former is None else max(former, chance)
        self._epoch, self._steps = 0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keras counts from 0 here; people count from 1."""
        self._epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Looks at the step's losses.

        Raises:
            CommandError: the training is past saving.
        """
        values = logs or {}
        if not math.isfinite(values["loss"]):
            self._stop(f"the loss became {values['loss']}")
        self._steps += 1
        mean = values["retrieval_loss"]
        if self._reference is None:
            self._reference = max(mean, self._chance)
        if (
            self._steps >= self._EARLIEST
            and batch + 1 >= self._window
            and mean > self._FACTOR * self._reference
        ):
            self._stop(
                f"the loss diverges, from {self._reference:.4g} at the start to a mean of {mean:.4g},"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the weights, which may be broken by the last step's update without any loss having shown it.

        Raises:
            CommandError: a weight is no finite number.
        """
        for variable in self.model.trainable_variables:
            if not tf.reduce_all(tf.math.is_finite(variable)):
                self._stop(f"the weights of {variable.name} are no numbers any more")

    def _stop(self, what: str) -> None:
        kept = (
            f"the checkpoint after epoch {self._epoch} is kept"
            if self._epoch
            else "no epoch was completed, so there is no checkpoint"
        )
        step = int(self.model.optimizer.iterations)
        raise CommandError(
            f"{what} at step {step}, in epoch {self._epoch + 1}, most likely because {likely_cause(self._config)}: "
            f"change it and train into another --model-dir; {kept}"
        )


def likely_cause(config: TrainConfig) -> str:
    """The setting that is farthest on the dangerous side of its default."""
    usual = TrainConfig()
    excess = {
        f"learning_rate {config.learning_rate:g} is too high": config.learning_rate
        / usual.learning_rate
    }
    if config.retrieval_loss in SOFTMAX_LOSSES:
        excess[f"temperature {config.temperature:g} is too low"] = (
            usual.temperature / config.temperature
        )
    if config.ranking_weight > 0 and config.ranking_loss != "hinge":
        excess[f"ranking_temperature {config.ranking_temperature:g} is too low"] = (
            usual.ranking_temperature / config.ranking_temperature
        )
    return max(excess, key=excess.__getitem__)


class EndOfEpoch(tf.keras.callbacks.Callback):
    """Logs and saves a completed epoch."""

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
        values = {k: float(v) for k, v in (logs or {}).items() if k in _LOGGED}
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
        self.close()

    def close(self) -> None:
        """Ends the bar, whether or not the epoch did."""
        if self._bar is not None:
            self._bar.close()
