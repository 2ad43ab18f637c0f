"""Training on several workers: who takes part, what all of them must agree about, and what happens when one is lost."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_mmse import parameter_servers, restarts, schema
from tfrs_mmse.checkpoints import kept
from tfrs_mmse.cli import CommandError, first_line, say
from tfrs_mmse.records import Turn
from tfrs_mmse.stopping import Stop
from tfrs_mmse.tf_config import Task

# What TensorFlow's collectives raise where a worker is gone, or another one has come in its place.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.AlreadyExistsError,
)


class Cluster:
    """The workers that take each step together, seen from one of them; a process without `TF_CONFIG` is alone.

    Attributes:
        strategy: Of TensorFlow; variables are made in its scope.
        is_chief: Whether this worker is the one that writes and speaks.
        turn: Which batches are this worker's.
        has_parameter_servers: Whether the steps are handed out to other processes.
    """

    def __init__(self, strategy: tf.distribute.Strategy, task: Task | None) -> None:
        """Args:
        strategy: What the workers are connected by.
        task: This process's; None if it is alone.
        """
        self.has_parameter_servers = task is not None and task.has_parameter_servers
        self._names, number = ["chief 0"], 0
        # With parameter servers, a step is one worker's.
        if task is not None and not task.has_parameter_servers:
            self._names = task.workers
            number = self._names.index(f"{task.type} {task.index}")
        self.strategy = strategy
        self._gather = tf.function(
            strategy.gather, reduce_retracing=True, autograph=False
        )
        self.is_chief = number == 0
        self.turn = Turn(num_workers=len(self._names), worker=number)

    def say(self, text: str) -> None:
        """`cli.say`, once for all workers."""
        if self.is_chief:
            say(text)

    def folder(self, model_dir: Path) -> Path:
        """Where this worker writes what only one of them shall write: for all but the chief, nowhere that lasts.

        The metrics so far are there, from which all draw the same conclusions.
        """
        if self.is_chief:
            return model_dir
        self._scratch = tempfile.TemporaryDirectory(prefix="tfrs_mmse_")
        folder = Path(self._scratch.name)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(model_dir / schema.METRICS, folder)
        return folder

    def of_chief(self, decision: bool) -> bool:
        """What the chief has decided; the workers wait for each other here.

        Args:
            decision: This worker's own, which may differ from it by a rounding.
        """
        if len(self._names) == 1:
            return decision
        return bool(self._gathered(tf.constant([int(decision)]))[0])

    def build(self, model: Callable[[], None]) -> None:
        """Creates the variables that calling a model creates."""
        if self.has_parameter_servers:
            # Traced and not run: the chief would fetch whole tables for it.
            tf.function(model, autograph=False).get_concrete_function()
        else:
            model()

    def wait(self) -> None:
        """Returns when all workers have come here."""
        self.check_agreement("steps", None)

    def check_agreement(self, what: str, value: Any) -> None:
        """Makes sure that all workers have the same; they wait for each other here.

        Args:
            what: What it is, for the message.
            value: JSON value.

        Raises:
            CommandError: on every worker, if any two differ.
        """
        if len(self._names) == 1:
            return
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
        mine = tf.constant([list(digest[:8])], tf.int32)
        theirs = self._gathered(mine)
        if differing := [
            name
            for name, value in zip(self._names, theirs, strict=True)
            if (value != theirs[0]).any()
        ]:
            raise CommandError(
                f"{', '.join(differing)} and {self._names[0]} have different {what}: start every worker with the same "
                "command on the same files"
            )

    def _gathered(self, mine: tf.Tensor) -> np.ndarray:
        """[1, ...] of each worker -> [workers, ...], in their order."""
        return self._gather(mine, axis=0).numpy()


@contextlib.contextmanager
def joined(task: Task | None, model_dir: Path, stop: Stop) -> Iterator[Cluster]:
    """Takes part in a cluster for as long as the context lasts; changes nothing for a process that is alone.

    The workers wait for each other before it begins. When one of them is lost, this process starts its own command anew
    and so waits for it to come back; all then go on from the last checkpoint. With parameter servers, the chief ends.

    Args:
        task: This process's, of those that compute; the chief if there are parameter servers; None if it is alone.
        model_dir: The run's directory, whose checkpoints show that there is progress.
        stop: If it was asked for, as it is of all workers when a whole cluster is stopped, nothing is started anew.

    Raises:
        CommandError: workers are lost again and again without a new checkpoint, or a parameter server is.
        Stopped: a task is lost, and `stop` was asked for.
    """
    if task is None:
        yield Cluster(tf.distribute.get_strategy(), None)
        return
    try:
        _check_devices()
        strategy = (
            parameter_servers.strategy_of(task)
            if task.has_parameter_servers
            else tf.distribute.MultiWorkerMirroredStrategy()
        )
        with strategy.scope():
            yield Cluster(strategy, task)
    except tf.errors.ResourceExhaustedError as e:
        if not task.has_parameter_servers:
            raise
        raise CommandError(
            f"a task of the cluster has not enough memory ({first_line(e)}): give it more, or start more ps tasks"
        ) from None
    except _LOST as e:
        stop.obey(f"as another task has; {kept(model_dir)}")
        if task.has_parameter_servers:
            raise CommandError(
                f"a task of the cluster is lost ({type(e).__name__}): start all of them again; {kept(model_dir)}"
            ) from None
        restarts.start_again(f"a worker is lost ({type(e).__name__})", model_dir)


def _check_devices() -> None:
    if len(gpus := tf.config.list_physical_devices("GPU")) > 1:
        raise CommandError(
            f"a worker uses one GPU, and this one sees {len(gpus)}: start a worker for each, with CUDA_VISIBLE_DEVICES"
        )
