"""Trains a model from a directory of examples: data, steps, checkpoints, metrics."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import (
    parameter_servers,
    plan,
    precision,
    resources,
    restore,
    run_directory,
    steps,
)
from tfrs_mmse.batches import training_batches
from tfrs_mmse.checkpoints import Checkpoints, kept
from tfrs_mmse.cluster import Cluster, joined
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.early_stopping import EarlyStopping
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.journal import Journal
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.plan import Plan
from tfrs_mmse.stopping import Stop
from tfrs_mmse.summary import Outcome
from tfrs_mmse.tf_config import read_task
from tfrs_mmse.watch import LossWatch


def train(
    config: TrainConfig,
    data: Path,
    model_dir: Path,
    *,
    checkpoint_seconds: float = math.inf,
    summary_steps: int = 100,
    skip_corrupt: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Trains, or goes on after the last checkpoint of a former run of the same config.

    Args:
        config: The resolved config; written to `model_dir` before the work starts.
        data: Directory of examples.
        model_dir: Receives config, vocabularies, checkpoints, metrics and TensorBoard logs.
        checkpoint_seconds: How often a checkpoint is saved beside those at the ends of the epochs.
        summary_steps: How often TensorBoard shows a step beside those at the ends of the epochs.
        skip_corrupt: Whether damaged shards are left out; a run keeps to the shards that it began with.
        stop: Asks for an end after a step, with a checkpoint.

    Returns:
        The result, as `summary.Outcome.result` makes it. None on a worker that is not the chief.

    Raises:
        CommandError: the data has no training requests or no positives, or not what the config asks for; a shard is
            damaged; memory or disk will not suffice; the directory holds another run; a checkpoint cannot be saved;
            `TF_CONFIG` cannot be used, or the workers differ; or the loss is no longer finite, or diverges.
        Stopped: `stop` was asked for it.
    """
    stop = stop or Stop()
    task = read_task()
    if task is not None and parameter_servers.is_server(task):
        parameter_servers.serve(task)
    with joined(task, model_dir, stop) as cluster:
        config = precision.resolved(config, model_dir, cluster)
        planned = plan.make(config, data, model_dir, cluster, skip_corrupt=skip_corrupt)
        run_directory.claim(
            model_dir,
            config,
            planned.examples,
            data,
            num_workers=cluster.turn.num_workers,
            may_write=cluster.is_chief,
        )
        with planned.examples.naming_damage():
            training = _Training(
                config, data, model_dir, planned, cluster, summary_steps
            )
            outcome = training.run(checkpoint_seconds, stop)
    if not cluster.is_chief:
        return None
    for line in outcome.lines():
        cluster.say(line)
    return outcome.result()


class _Training:
    """A training at the step that it has come to."""

    def __init__(
        self,
        config: TrainConfig,
        data: Path,
        model_dir: Path,
        planned: Plan,
        cluster: Cluster,
        summary_steps: int,
    ) -> None:
        """Builds what is trained, and brings back what a former run of it has come to."""
        self._config, self._data, self._model_dir = config, data, model_dir
        self._plan, self._cluster = planned, cluster
        manifest = planned.manifest
        tf.keras.utils.set_random_seed(config.seed)
        self._model = model = TwoTowerModel(
            manifest.features,
            config,
            num_items=manifest.num_items,
            num_steps=planned.num_steps,
            ordered_weight=planned.ordered_weight,
        )
        vocabularies = read_vocabularies(data, manifest.features.grains)
        self._featurizer = Featurizer(manifest.features, vocabularies)
        cluster.build(lambda: restore.build(model, self._featurizer))
        optimizer = precision.optimizer(config)
        model.compile(optimizer=optimizer)
        self._watch = LossWatch(
            config,
            steps_per_epoch=planned.steps_per_epoch,
            chance=model.retrieval.chance(),
            kept=lambda: kept(model_dir),
        )
        self._checkpoints = Checkpoints(
            model_dir, model=model, optimizer=optimizer, reference=self._watch.reference
        )
        is_restored = self._checkpoints.restore() is not None
        self._done = int(optimizer.iterations.numpy())
        if is_restored:
            cluster.say(f"continuing after step {self._done} of {planned.num_steps}")
        cluster.check_agreement("checkpoints to go on from in --model-dir", self._done)
        self._journal = Journal(
            config,
            model,
            data,
            cluster.folder(model_dir),
            planned,
            done=self._done,
            summary_steps=summary_steps,
            is_quiet=not cluster.is_chief,
        )
        self._stopping = EarlyStopping(
            config,
            self._journal.metrics.entries,
            epochs_done=self._done // planned.steps_per_epoch,
            model_dir=model_dir,
        )

    def run(self, checkpoint_seconds: float, stop: Stop) -> Outcome:
        """Takes the steps that are left.

        Args:
            checkpoint_seconds: How often a checkpoint is saved beside those at the ends of the epochs.
            stop: Asks for an end after a step, with a checkpoint.
        """
        planned, cluster = self._plan, self._cluster
        # Again, because a kill may have come between a checkpoint and its mark.
        self._mark_best()
        is_over = self._is_over()
        left = range(self._done, self._done if is_over else planned.num_steps)
        batches = training_batches(
            self._config,
            self._data,
            self._featurizer,
            num_items=planned.manifest.num_items,
            steps_per_epoch=planned.steps_per_epoch,
            first_step=self._done,
            left_out=planned.examples.left_out,
            turn=cluster.turn,
        )
        started = saved = time.monotonic()
        done = self._done
        with (
            contextlib.closing(self._journal),
            contextlib.nullcontext()
            if cluster.has_parameter_servers
            else resources.naming_shortage(self._config),
            stop.patient(),
        ):
            for step in steps.take(
                left,
                batches,
                self._model,
                self._journal.monitor,
                cluster,
                steps_per_epoch=planned.steps_per_epoch,
            ):
                done = step.done
                is_end = done % planned.steps_per_epoch == 0
                is_due = time.monotonic() - saved > checkpoint_seconds
                # Once: a signal that comes later is obeyed after a later step, which is saved then.
                is_saved = is_end or is_due or stop.is_asked_for
                self._after(step, is_saved=is_saved)
                if is_saved:
                    saved = time.monotonic()
                    where = f"after step {done} of {planned.num_steps}"
                    stop.obey(f"{where}, which is saved" if cluster.is_chief else where)
                if is_end and self._is_over():
                    break
        cluster.wait()  # until the last checkpoint is saved
        return Outcome(
            self._config,
            self._data,
            self._model_dir,
            entries=self._journal.metrics.entries,
            best_epoch=self._stopping.best_epoch,
            steps=done,
            steps_here=done - self._done,
            examples_here=(done - self._done)
            * planned.num_requests
            / planned.steps_per_epoch,
            seconds=time.monotonic() - started,
            stopped_early=done < planned.num_steps,
            left_out={
                "shards": len(planned.examples.left_out),
                "records": planned.examples.num_left_out,
            },
        )

    def _after(self, step: steps.Step, *, is_saved: bool) -> None:
        """Judges, tells and saves a step."""
        self._watch.after_step(
            step.done,
            loss=step.values["loss"],
            mean_retrieval_loss=step.values["retrieval_loss"],
        )
        if is_saved:
            self._watch.before_saving(step.done, self._model.trainable_variables)
        # Before the checkpoint: an epoch's entry without one is dropped when the run goes on, one that is missing
        # stays so.
        self._journal.after_step(step.done, step.values, step.seen)
        if step.done % self._plan.steps_per_epoch == 0:
            self._model.reset_metrics()
        if is_saved and self._cluster.is_chief:
            self._checkpoints.save(step.done)
            self._mark_best()

    def _is_over(self) -> bool:
        return self._stopping.is_on and self._cluster.of_chief(self._stopping.is_over)

    def _mark_best(self) -> None:
        if self._cluster.is_chief:
            best = self._stopping.best_epoch * self._plan.steps_per_epoch
            self._checkpoints.mark_best(best)
