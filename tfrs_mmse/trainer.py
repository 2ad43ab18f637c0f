"""Trains a model from a directory of examples: data, steps, checkpoints, metrics."""

import math
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import levels, restore, schema
from tfrs_mmse.batches import training_batches
from tfrs_mmse.callbacks import EndOfEpoch, LossWatch, MetricsLog, ProgressBar
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel


def train(config: TrainConfig, data: Path, model_dir: Path) -> dict[str, Any]:
    """Trains, or goes on after the last epoch that a former run of the same config completed.

    Args:
        config: The resolved config; written to `model_dir` before the work starts.
        data: Directory of examples.
        model_dir: Receives config, vocabularies, checkpoints, metrics and TensorBoard logs.

    Returns:
        A summary: the last epoch's losses, steps and seconds.

    Raises:
        CommandError: the data has no training requests or no positives, or not what the config asks for; the directory
            holds another run; or the loss is no longer finite, or diverges.
    """
    manifest = schema.Manifest.read(data)
    # Refused before anything is written.
    config.chosen_grains(manifest.features)
    steps_per_epoch = _steps_per_epoch(config, manifest, data)
    ordered_weight = 1.0
    if config.use_log:
        counts = manifest.splits[schema.TRAIN]
        levels.check_wishes(config, counts)
        ordered_weight = levels.ordered_weight(config, counts)
        for note in levels.absent_level_notes(config, counts):
            say(note)
        if ordered_weight != 1:
            say(f"an ordered item weighs as much as {ordered_weight:.1f} clicked ones")
    _claim(model_dir, config, manifest, data)

    tf.keras.utils.set_random_seed(config.seed)
    num_steps = steps_per_epoch * config.epochs
    model = TwoTowerModel(
        manifest.features,
        config,
        num_items=manifest.num_items,
        num_steps=num_steps,
        ordered_weight=ordered_weight,
    )
    featurizer = Featurizer(
        manifest.features, read_vocabularies(data, manifest.features.grains)
    )
    restore.build(model, featurizer)
    # The legacy optimizer has a fused sparse update; the newer one is several times slower on large tables.
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(config.learning_rate))

    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=model.optimizer, epoch=epoch
    )
    manager = tf.train.CheckpointManager(
        checkpoint, str(model_dir / schema.CHECKPOINTS), max_to_keep=2
    )
    if manager.restore_or_initialize():
        say(f"continuing after epoch {int(epoch)} of {config.epochs}")

    started = time.monotonic()
    log = MetricsLog(model_dir, keep=int(epoch))
    if int(epoch) < config.epochs:
        bar = ProgressBar(steps_per_epoch, config.epochs)
        watch = LossWatch(
            config,
            steps_per_epoch=steps_per_epoch,
            chance=model.retrieval.chance(),
            former=log.first.get("retrieval_loss"),
        )
        batches = training_batches(
            config, data, featurizer, range(int(epoch), config.epochs)
        )
        try:
            model.fit(
                batches,
                initial_epoch=int(epoch),
                epochs=config.epochs,
                steps_per_epoch=steps_per_epoch,
                callbacks=[bar, watch, EndOfEpoch(log, manager, epoch)],
                verbose=0,
            )
        finally:
            bar.close()
    return {
        "model_dir": str(model_dir),
        "preset": config.preset,
        "epochs": config.epochs,
        "steps": num_steps,
        "seconds": round(time.monotonic() - started, 1),
        "metrics": log.last,
    }


def _steps_per_epoch(config: TrainConfig, manifest: schema.Manifest, data: Path) -> int:
    """Steps that see every request of the log once, or every item if the log is not learned from.

    Raises:
        CommandError: there is nothing to learn from.
    """
    if not config.use_log:
        return math.ceil(manifest.num_items / config.synthetic_queries)
    counts = manifest.splits.get(schema.TRAIN, {})
    positives = counts.get(schema.Level.CLICKED.name.lower(), 0) + counts.get(
        schema.Level.ORDERED.name.lower(), 0
    )
    if not counts.get("requests", 0):
        raise CommandError(
            f"{data} holds no training requests: run `python -m beam.preprocess` with --events, or learn from the "
            "catalogue alone with --preset cold_start"
        )
    if not positives:
        raise CommandError(
            f"{data} holds no clicked or ordered item in its training requests to learn from"
        )
    return math.ceil(counts["requests"] / config.batch_size)


def _claim(
    model_dir: Path, config: TrainConfig, manifest: schema.Manifest, data: Path
) -> None:
    """Writes the run's description, or makes sure that the one that is there is the same."""
    path = model_dir / schema.CONFIG
    if not path.exists():
        restore.write_run(model_dir, config, manifest, data)
        return
    saved = restore.read_run(model_dir)
    restore.check_fits(saved, manifest, model_dir, data)
    former, now = saved["config"], config.to_dict()
    if changed := [
        f"{k} {former.get(k)!r} -> {v!r}" for k, v in now.items() if former.get(k) != v
    ]:
        raise CommandError(
            f"{model_dir} holds a run with another config ({', '.join(changed)}): give another --model-dir, "
            "or the same config to continue it"
        )
    if not restore.keeps_vocabularies(saved):
        restore.write_run(model_dir, config, manifest, data)
