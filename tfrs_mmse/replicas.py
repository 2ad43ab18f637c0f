"""What the replicas of one synchronous step tell each other, so that together they compute what one process would.

Each replica has a batch of its own. With these functions its loss is its share of the loss of all batches merged, and
the gradients, summed over the replicas, are those of the merged batch. Outside of a step of several replicas, nothing
here changes anything or adds an operation.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrs_mmse.batches import Batch, distinct
from tfrs_mmse.records import Items


def num_replicas() -> int:
    """How many take the present step together; 1 outside of `Strategy.run`."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def total(value: tf.Tensor) -> tf.Tensor:
    """Sum of a tensor over the replicas; its gradient is not followed."""
    if num_replicas() == 1:
        return value
    return tf.stop_gradient(_summed(value))


def gathered(candidate: tf.Tensor, batch: Batch) -> tuple[tf.Tensor, Batch]:
    """Lets a replica's queries meet the candidates of all replicas, each distinct item once.

    Every replica gets the same candidates in the same order. The gradient of a candidate's embedding is the sum over
    all replicas, and reaches the replica that has embedded the item (one of them, where several have).

    Args:
        candidate: [C, D] embeddings of the replica's own candidates; C may differ, and be 0.
        batch: What they are of.

    Returns:
        [G, D] embeddings, and the batch with those G candidates, without their ids; `slot` and `num_logged` are of all
        replicas' candidates, too. The requests are still the replica's own.
    """
    if num_replicas() == 1:
        return candidate, batch
    own = batch.candidates
    embedding, before = concatenated(candidate)
    key, number, first = distinct(concatenated(own.key)[0])
    log_probability, _ = concatenated(own.log_probability)
    merged = Items(key=key, ids={}, log_probability=tf.gather(log_probability, first))
    return tf.gather(embedding, first), batch._replace(
        candidates=merged,
        slot=tf.gather(number, before + batch.slot),
        num_logged=total(batch.num_logged),
    )


def concatenated(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of all replicas, in the same order on each.

    A row's gradient is the sum of its gradients on all replicas.

    Args:
        rows: [N, ...] of this replica; N may differ, and be 0.

    Returns:
        [sum of N, ...]; and how many rows stand before this replica's own.
    """
    context = tf.distribute.get_replica_context()
    # TensorFlow gathers to where a tensor is, and what comes from outside of the step is nowhere yet.
    num_rows = tf.identity(tf.shape(rows)[:1])
    sizes = context.all_gather(num_rows, axis=0)
    before = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])

    @tf.custom_gradient
    def gather(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # TensorFlow's own gradient cannot take sparse ones, as `tf.gather` has.
            summed = _summed(tf.convert_to_tensor(upstream))
            return summed[before : before + num_rows[0]]

        return context.all_gather(tf.identity(rows), axis=0), gradient

    return gather(rows), before


def _summed(value: tf.Tensor) -> tf.Tensor:
    # As above: what comes from outside of the step is nowhere yet.
    return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(value))


class EqualMean(tf.keras.metrics.Mean):
    """The mean of values that are the same on every replica.

    Keras's own means differ between replicas and are added up when they are read or saved, by all of them at once; this
    one can be saved by a single process, and comes back exactly.
    """

    def add_weight(self, *args: Any, **options: Any) -> tf.Variable:
        options |= {
            "synchronization": tf.VariableSynchronization.ON_WRITE,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        return super().add_weight(*args, **options)
