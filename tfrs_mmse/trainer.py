"""Trains a model from a directory of examples: data, steps, checkpoints, metrics."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import holdout, levels, restore, schema
from tfrs_mmse.batches import training_batches
from tfrs_mmse.checkpoints import Checkpoints, kept
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.early_stopping import EarlyStopping
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.holdout import Holdout
from tfrs_mmse.journal import Journal
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.monitor import Monitor
from tfrs_mmse.summary import Outcome
from tfrs_mmse.watch import LossWatch


def train(
    config: TrainConfig,
    data: Path,
    model_dir: Path,
    *,
    checkpoint_seconds: float = math.inf,
    summary_steps: int = 100,
) -> dict[str, Any]:
    """Trains, or goes on after the last checkpoint of a former run of the same config.

    Args:
        config: The resolved config; written to `model_dir` before the work starts.
        data: Directory of examples.
        model_dir: Receives config, vocabularies, checkpoints, metrics and TensorBoard logs.
        checkpoint_seconds: How often a checkpoint is saved beside those at the ends of the epochs.
        summary_steps: How often TensorBoard shows a step beside those at the ends of the epochs.

    Returns:
        The result, as `summary.Outcome.result` makes it.

    Raises:
        CommandError: the data has no training requests or no positives, or not what the config asks for; the directory
            holds another run; a checkpoint cannot be saved; or the loss is no longer finite, or diverges.
    """
    manifest = schema.Manifest.read(data)
    # Refused before anything is written.
    config.chosen_grains(manifest.features)
    num_requests = _num_requests(config, manifest, data)
    held_out: Holdout | None = None
    if config.patience:
        num_queries = manifest.splits[schema.TRAIN]["queries"]
        held_out = holdout.read(config, data, num_queries=num_queries)
        num_requests = held_out.num_training
    batch_size = config.batch_size if config.use_log else config.synthetic_queries
    steps_per_epoch = math.ceil(num_requests / batch_size)
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
    optimizer = tf.keras.optimizers.legacy.Adagrad(config.learning_rate)
    model.compile(optimizer=optimizer)
    watch = LossWatch(
        config,
        steps_per_epoch=steps_per_epoch,
        chance=model.retrieval.chance(),
        kept=lambda: kept(model_dir),
    )
    checkpoints = Checkpoints(
        model_dir, model=model, optimizer=optimizer, reference=watch.reference
    )
    if checkpoints.restore():
        say(f"continuing after step {int(optimizer.iterations)} of {num_steps}")

    started = time.monotonic()
    step = done = int(optimizer.iterations)
    journal = Journal(
        config,
        model,
        data,
        model_dir,
        manifest.features,
        held_out=held_out,
        done=done,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        summary_steps=summary_steps,
    )
    stopping = EarlyStopping(
        config,
        journal.metrics.entries,
        epochs_done=done // steps_per_epoch,
        model_dir=model_dir,
    )
    # Again, because a kill may have come between a checkpoint and its mark.
    checkpoints.mark_best(stopping.best_epoch * steps_per_epoch)
    batches = training_batches(
        config,
        data,
        featurizer,
        num_items=manifest.num_items,
        steps_per_epoch=steps_per_epoch,
        first_step=done,
    )
    steps = range(done, done if stopping.is_over else num_steps)
    with contextlib.closing(journal):
        saved = time.monotonic()
        for step, values, seen in _steps(journal.monitor, batches, steps):
            watch.after_step(
                step, loss=values["loss"], mean_retrieval_loss=values["retrieval_loss"]
            )
            is_end = step % steps_per_epoch == 0
            is_saved = is_end or time.monotonic() - saved > checkpoint_seconds
            if is_saved:
                watch.before_saving(step, model.trainable_variables)
            # Before the checkpoint: an epoch's entry without one is dropped when the run goes on, one that is missing
            # stays so.
            journal.after_step(step, values, seen)
            if is_end:
                model.reset_metrics()
            if is_saved:
                checkpoints.save(step)
                checkpoints.mark_best(stopping.best_epoch * steps_per_epoch)
                saved = time.monotonic()
            if stopping.is_over:
                break
    outcome = Outcome(
        config,
        data,
        model_dir,
        entries=journal.metrics.entries,
        best_epoch=stopping.best_epoch,
        steps=step,
        steps_here=step - done,
        examples_here=(step - done) * num_requests / steps_per_epoch,
        seconds=time.monotonic() - started,
        stopped_early=step < num_steps,
    )
    for line in outcome.lines():
        say(line)
    return outcome.result()


def _steps(
    monitor: Monitor, batches: tf.data.Dataset, steps: range
) -> Iterator[tuple[int, dict[str, float], dict[str, float]]]:
    """Takes the steps with these numbers, from 0; yields for each how many are done, and what there is to tell of it.

    Yields:
        Steps done; what Keras and TFRS say of the step; what the monitor saw of it, empty if it is not to be shown.
    """
    shown = tf.TensorSpec([], tf.bool)
    take = tf.function(
        monitor.train_step, input_signature=[batches.element_spec, shown]
    )
    if not steps:
        return
    iterator = iter(batches)
    for step in steps:
        batch, is_shown = next(iterator), monitor.shows(step + 1)
        seen = monitor.look(batch) if is_shown else {}
        values, gradient_norm = take(batch, tf.constant(is_shown))
        if is_shown:
            seen["gradient_norm"] = float(gradient_norm)
        yield step + 1, {name: float(value) for name, value in values.items()}, seen


def _num_requests(config: TrainConfig, manifest: schema.Manifest, data: Path) -> int:
    """Requests of an epoch: all of the log, or one for each item if the log is not learned from.

    Raises:
        CommandError: there is nothing to learn from.
    """
    if not config.use_log:
        return manifest.num_items
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
    return counts["requests"]


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
    # A field that came after the run was made had its default then.
    former, now = TrainConfig().to_dict() | saved["config"], config.to_dict()
    if changed := [
        f"{k} {former[k]!r} -> {v!r}" for k, v in now.items() if former[k] != v
    ]:
        raise CommandError(
            f"{model_dir} holds a run with another config ({', '.join(changed)}): give another --model-dir, "
            "or the same config to continue it"
        )
    if not restore.keeps_vocabularies(saved):
        restore.write_run(model_dir, config, manifest, data)
