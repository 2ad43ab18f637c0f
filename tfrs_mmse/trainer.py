"""Trains a model from a directory of examples: data, steps, checkpoints, metrics."""

import json
import math
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from tfrs_mmse import records, restore, schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import Batch, TwoTowerModel


def train(config: TrainConfig, data: Path, model_dir: Path) -> dict[str, Any]:
    """Trains, or goes on after the last epoch that a former run of the same config completed.

    Args:
        config: The resolved config; written to `model_dir` before the work starts.
        data: Directory of examples.
        model_dir: Receives config, checkpoints, metrics and TensorBoard logs.

    Returns:
        A summary: the last epoch's losses, steps and seconds.

    Raises:
        CommandError: the data has no training requests or no positives, the directory holds another run, or the loss
            is no longer finite.
    """
    manifest = schema.Manifest.read(data)
    num_requests = _check_trainable(manifest, data)
    config.chosen_grains(manifest.features)  # refused before anything is written
    _claim(model_dir, config, manifest, data)

    tf.keras.utils.set_random_seed(config.seed)
    steps_per_epoch = math.ceil(num_requests / config.batch_size)
    num_steps = steps_per_epoch * config.epochs
    model = TwoTowerModel(manifest.features, config, num_items=manifest.num_items, num_steps=num_steps)
    restore.build(model, Featurizer(manifest.features, read_vocabularies(data, manifest.features.grains)))
    # The legacy optimizer has a fused sparse update; the newer one is several times slower on large tables.
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(config.learning_rate))

    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=epoch)
    manager = tf.train.CheckpointManager(checkpoint, str(model_dir / schema.CHECKPOINTS), max_to_keep=2)
    if manager.restore_or_initialize():
        say(f"continuing after epoch {int(epoch)} of {config.epochs}")

    started = time.monotonic()
    log = MetricsLog(model_dir, keep=int(epoch))
    if int(epoch) < config.epochs:
        model.fit(
            batches(config, data, manifest, range(int(epoch), config.epochs)),
            initial_epoch=int(epoch),
            epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=[ProgressBar(steps_per_epoch, config.epochs), EndOfEpoch(log, manager, epoch)],
            verbose=0,
        )
    return {
        "model_dir": str(model_dir),
        "preset": config.preset,
        "epochs": config.epochs,
        "steps": num_steps,
        "seconds": round(time.monotonic() - started, 1),
        "metrics": log.last,
    }


def batches(config: TrainConfig, data: Path, manifest: schema.Manifest, epochs: range) -> tf.data.Dataset:
    """The training batches of the given epochs: a dataset of `Batch`."""
    requests = records.request_batches(
        data, manifest.features, schema.TRAIN, batch_size=config.batch_size, seed=config.seed, epochs=epochs
    )
    if config.uniform_negatives == 0:
        return requests.map(lambda r: Batch(r, records.no_items(r.items))).prefetch(4)
    # Another part of the catalogue after a restart than at the start: the seed depends on the first epoch.
    seed = config.seed + 7919 * epochs.start
    random = records.random_item_batches(data, manifest.features, batch_size=config.uniform_negatives, seed=seed)
    return tf.data.Dataset.zip((requests, random)).map(Batch).prefetch(4)


class MetricsLog:
    """`metrics.jsonl` and TensorBoard: one entry for each completed epoch."""

    def __init__(self, model_dir: Path, *, keep: int) -> None:
        """Opens the log.

        Args:
            model_dir: The run's directory.
            keep: Epochs whose entries stay; later ones are of an epoch that was cut short and is done again.
        """
        self._path = model_dir / schema.METRICS
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        entries = [entry for line in lines if (entry := json.loads(line))["epoch"] <= keep]
        self._path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
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

    def __init__(self, log: MetricsLog, manager: tf.train.CheckpointManager, epoch: tf.Variable) -> None:
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
        values = {name: float(value) for name, value in (logs or {}).items() if name.endswith("_loss")}
        values = {k: v for k, v in values.items() if k not in ("total_loss", "regularization_loss")}
        if not all(math.isfinite(value) for value in values.values()):
            raise CommandError(
                f"the loss became {values} in epoch {epoch + 1}: lower learning_rate or raise temperature; "
                f"the checkpoint after epoch {epoch} is kept"
            )
        # Log first: an entry without its checkpoint is dropped when the run continues, one that is missing stays so.
        self._log.append(epoch + 1, values | {f"fusion/{name}": weight for name, weight in weights.items()})
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
        self._bar = tqdm(total=self._steps, desc=f"epoch {epoch + 1}/{self._epochs}", unit="step", mininterval=1.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar on."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{(logs or {}).get('loss', math.nan):.4f}", refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def _check_trainable(manifest: schema.Manifest, data: Path) -> int:
    """Number of training requests, at least one of which has a positive."""
    counts = manifest.splits.get(schema.TRAIN, {})
    positives = counts.get(schema.Level.CLICKED.name.lower(), 0) + counts.get(schema.Level.ORDERED.name.lower(), 0)
    if not counts.get("requests", 0):
        raise CommandError(f"{data} holds no training requests; run `python -m beam.preprocess` with --events")
    if not positives:
        raise CommandError(f"{data} holds no clicked or ordered item in its training requests to learn from")
    return counts["requests"]


def _claim(model_dir: Path, config: TrainConfig, manifest: schema.Manifest, data: Path) -> None:
    """Writes the run's description, or makes sure that the one that is there is the same."""
    path = model_dir / schema.CONFIG
    if not path.exists():
        model_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(restore.run_description(config, manifest), indent=2) + "\n", encoding="utf-8")
        return
    saved = restore.read_run(model_dir)
    restore.check_fits(saved, manifest, model_dir, data)
    former, now = saved["config"], config.to_dict()
    if changed := [f"{k} {former.get(k)!r} -> {v!r}" for k, v in now.items() if former.get(k) != v]:
        raise CommandError(
            f"{model_dir} holds a run with another config ({', '.join(changed)}): give another --model-dir, "
            "or the same config to continue it"
        )
