"""Trains a model from a directory of examples: data, steps, checkpoints, metrics."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import examples, levels, parameter_servers, resources, restore, schema
from tfrs_mmse.batches import Batch, training_batches
from tfrs_mmse.checkpoints import Checkpoints, kept
from tfrs_mmse.cli import CommandError
from tfrs_mmse.cluster import Cluster, joined
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.progress import MetricsLog, ProgressBar
from tfrs_mmse.stopping import Stop
from tfrs_mmse.tf_config import read_task
from tfrs_mmse.watch import LossWatch

RETRIEVAL_LOSS, RANKING_LOSS = LOSSES = ("retrieval_loss", "ranking_loss")


def train(
    config: TrainConfig,
    data: Path,
    model_dir: Path,
    *,
    checkpoint_seconds: float = math.inf,
    skip_corrupt: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Trains, or goes on after the last checkpoint of a former run of the same config.

    Args:
        config: The resolved config; written to `model_dir` before the work starts.
        data: Directory of examples.
        model_dir: Receives config, vocabularies, checkpoints, metrics and TensorBoard logs.
        checkpoint_seconds: How often a checkpoint is saved beside those at the ends of the epochs.
        skip_corrupt: Whether damaged shards are left out; a run keeps to the shards that it began with.
        stop: Asks for an end after a step, with a checkpoint.

    Returns:
        A summary: the last epoch's losses, steps and seconds. None on a worker that is not the chief.

    Raises:
        CommandError: the data has no training requests or no positives, or not what the config asks for; a shard is
            damaged; memory or disk will not suffice; the directory holds another run; a checkpoint cannot be saved; or
            the loss is no longer finite, or diverges.
        Stopped: `stop` was asked for it.
    """
    stop = stop or Stop()
    task = read_task()
    if task is not None and parameter_servers.is_server(task):
        parameter_servers.serve(task)
    with joined(task, model_dir, stop) as cluster:
        return _train(
            config, data, model_dir, checkpoint_seconds, skip_corrupt, stop, cluster
        )


def _train(
    config: TrainConfig,
    data: Path,
    model_dir: Path,
    checkpoint_seconds: float,
    skip_corrupt: bool,
    stop: Stop,
    cluster: Cluster,
) -> dict[str, Any] | None:
    manifest = schema.Manifest.read(data)
    # Refused before anything is written.
    config.chosen_grains(manifest.features)
    _steps_per_epoch(config, manifest, data, cluster)
    ordered_weight = 1.0
    if config.use_log:
        counts = manifest.splits[schema.TRAIN]
        levels.check_wishes(config, counts)
        ordered_weight = levels.ordered_weight(config, counts)
        for note in levels.absent_level_notes(config, counts):
            cluster.say(note)
        if ordered_weight != 1:
            cluster.say(
                f"an ordered item weighs as much as {ordered_weight:.1f} clicked ones"
            )
    used = examples.check(data, manifest, config, skip_corrupt=skip_corrupt)
    manifest = used.manifest
    steps_per_epoch = _steps_per_epoch(config, manifest, data, cluster)
    if not cluster.has_parameter_servers:  # of which none has all of it
        resources.check(config, manifest, used.record_bytes, model_dir)
    cluster.check_agreement("config", config.to_dict())
    cluster.check_agreement("examples", [manifest.to_json(), used.description])
    _claim(model_dir, config, used, data, cluster)

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
        cluster.say(
            f"continuing after step {int(optimizer.iterations.numpy())} of {num_steps}"
        )

    started = time.monotonic()
    done = int(optimizer.iterations.numpy())
    cluster.check_agreement("checkpoints to continue from in --model-dir", done)
    log = MetricsLog(cluster.folder(model_dir), keep=done // steps_per_epoch)
    batches = training_batches(
        config,
        data,
        featurizer,
        num_items=manifest.num_items,
        steps_per_epoch=steps_per_epoch,
        first_step=done,
        left_out=used.left_out,
        turn=cluster.turn,
    )
    bar = ProgressBar(
        done=done,
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        is_quiet=not cluster.is_chief,
    )
    with (
        contextlib.closing(bar),
        used.naming_damage(),
        resources.naming_shortage(config),
        stop.patient(),
        cluster.naming_loss(),
    ):
        saved = time.monotonic()
        for step, values in _steps(
            cluster, model, batches, range(done, num_steps), steps_per_epoch
        ):
            losses = {name: values[name] for name in LOSSES}
            watch.after_step(
                step, loss=values["loss"], mean_retrieval_loss=values[RETRIEVAL_LOSS]
            )
            bar.after_step(step, losses)
            is_end = step % steps_per_epoch == 0
            is_due = time.monotonic() - saved > checkpoint_seconds
            if is_end or is_due or stop.is_asked_for:
                watch.before_saving(step, model.trainable_variables)
                if is_end:
                    # Before the checkpoint: an entry without one is dropped when the run goes on, one that is missing
                    # stays so.
                    log.append(step // steps_per_epoch, losses | _fusion(model))
                    model.reset_metrics()
                if cluster.is_chief:
                    checkpoints.save(step)
                saved = time.monotonic()
                stop.obey(f"after step {step} of {num_steps}, which is saved")
    cluster.wait()  # until the last checkpoint is saved
    if not cluster.is_chief:
        return None
    return {
        "model_dir": str(model_dir),
        "preset": config.preset,
        "epochs": config.epochs,
        "steps": num_steps,
        "seconds": round(time.monotonic() - started, 1),
        "left_out": {"shards": len(used.left_out), "records": used.num_left_out},
        "metrics": log.last,
    }


def _steps(
    cluster: Cluster,
    model: TwoTowerModel,
    batches: tf.data.Dataset,
    steps: range,
    steps_per_epoch: int,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Takes the steps with these numbers, from 0; yields how many are done, and what Keras and TFRS say of each."""

    @tf.function
    def take(iterator: Iterator[Batch]) -> dict[str, tf.Tensor]:
        values = cluster.strategy.run(model.train_step, args=(next(iterator),))
        # The share of each worker; the means are those of all of them already.
        return values | {"loss": cluster.strategy.reduce("SUM", values["loss"], None)}

    if not steps:
        return
    if cluster.has_parameter_servers:
        yield from parameter_servers.steps(
            cluster.strategy,
            model.train_step,
            batches,
            steps,
            steps_per_epoch=steps_per_epoch,
        )
        return
    iterator = iter(batches)
    for step in steps:
        yield step + 1, {name: float(v) for name, v in take(iterator).items()}


def _fusion(model: TwoTowerModel) -> dict[str, float]:
    weights = model.query_tower.fusion_weights_by_grain()
    return {f"fusion/{name}": weight for name, weight in weights.items()}


def _steps_per_epoch(
    config: TrainConfig, manifest: schema.Manifest, data: Path, cluster: Cluster
) -> int:
    """Steps that see every request of the log once, or every item if the log is not learned from.

    Raises:
        CommandError: there is nothing to learn from.
    """
    num_workers = cluster.turn.num_workers
    if not config.use_log:
        return math.ceil(manifest.num_items / (config.synthetic_queries * num_workers))
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
    return math.ceil(counts["requests"] / (config.batch_size * num_workers))


def _claim(
    model_dir: Path,
    config: TrainConfig,
    used: examples.Examples,
    data: Path,
    cluster: Cluster,
) -> None:
    """Writes the run's description, or makes sure that the one that is there is the same."""
    path, manifest = model_dir / schema.CONFIG, used.manifest

    def write() -> None:
        if cluster.is_chief:
            restore.write_run(
                model_dir,
                config,
                manifest,
                data,
                examples=used.description,
                num_workers=cluster.turn.num_workers,
            )

    if not path.exists():
        write()
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
    cluster.check_size(saved.get("num_workers", 1), model_dir)
    used.check_same(saved.get("examples"), model_dir, data)
    if not restore.keeps_vocabularies(saved):
        write()
