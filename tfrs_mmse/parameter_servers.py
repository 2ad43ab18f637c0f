"""Tables that are too large for one machine: their rows are spread over parameter servers.

TensorFlow's `ParameterServerStrategy`: `ps` tasks hold the variables, `worker` tasks compute gradients, each with the
weights as they are at the moment, and the chief hands out the batches and saves. What a step sees is what it would see
in one process; which weights it meets depends on who is faster, so no two runs are equal.
"""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import tensorflow as tf

from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.tf_config import CHIEF, PARAMETER_SERVER, WORKER, Task

# Smaller variables stay on one server.
_MIN_SHARD_BYTES = 256 * 1024
_STEPS_AHEAD = 2  # of each worker, so that none waits for its next batch
_PATIENCE = (
    3600.0  # seconds that a server waits for the chief, as workers do for each other
)


def strategy_of(task: Task) -> tf.distribute.ParameterServerStrategy:
    """What the chief trains with: waits for all other tasks, and spreads the rows of large variables."""
    return tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.TFConfigClusterResolver(rpc_layer="grpc"),
        tf.distribute.experimental.partitioners.MinSizePartitioner(
            _MIN_SHARD_BYTES, max_shards=len(task.cluster[PARAMETER_SERVER])
        ),
    )


def is_server(task: Task) -> bool:
    """Whether a task does what the chief of a cluster with parameter servers tells it."""
    return task.has_parameter_servers and task.type != CHIEF


def serve(task: Task) -> NoReturn:
    """What all but the chief do: holds variables or computes, and ends the process when the chief has ended.

    Raises:
        CommandError: there is no chief.
    """
    server = tf.distribute.Server(
        tf.train.ClusterSpec(task.cluster),
        job_name=task.type,
        task_index=task.index,
        protocol="grpc",
    )
    chief = task.cluster[CHIEF][0]
    deadline = time.monotonic() + _PATIENCE
    while not _answers(chief):
        if time.monotonic() > deadline:
            raise CommandError(
                f"the chief at {chief} has not come within {_PATIENCE / 60:.0f} minutes: start it"
            )
        time.sleep(1)
    while _answers(chief):
        time.sleep(1)
    say(f"{server.server_def.job_name} {task.index}: the chief has ended")
    # A server cannot be stopped, and when the interpreter ends it may wait for others that are gone.
    os._exit(0)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def steps(
    strategy: tf.distribute.Strategy,
    train_step: Callable[[Any], dict[str, tf.Tensor]],
    batches: tf.data.Dataset,
    numbers: range,
    *,
    steps_per_epoch: int,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Lets the workers take the steps with these numbers, from 0; yields how many are done, and the values of each.

    At the end of an epoch no step is under way.
    """
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

    @tf.function(reduce_retracing=True, autograph=False)
    def take(batch: Any) -> dict[str, tf.Tensor]:
        return strategy.run(train_step, args=(batch,))

    iterator = iter(batches)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    num_workers = resolver.cluster_spec().num_tasks(WORKER)
    under_way: deque[Any] = deque()
    done = numbers.start
    for number in numbers:
        under_way.append(coordinator.schedule(take, args=(next(iterator),)))
        is_end = (number + 1) % steps_per_epoch == 0
        while len(under_way) > (0 if is_end else _STEPS_AHEAD * num_workers):
            done += 1
            values = under_way.popleft().fetch()
            yield done, {name: float(value) for name, value in values.items()}
