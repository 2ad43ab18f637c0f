"""Scores of a batch, and of the slots of its requests."""

import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse.batches import make_batch
from tfrs_mmse.records import Items, Requests
from tfrs_mmse.scores import Scores, compare

# Request 0 shows items 5 and 7, request 1 shows 7 and 9.
REQUESTS = Requests(
    query_ids={},
    positive_key=tf.ragged.constant([[5], [9]], tf.int64, row_splits_dtype=tf.int64),
    items=Items(tf.constant([5, 7, 7, 9], tf.int64), {}, tf.zeros([4])),
    request=tf.constant([0, 0, 1, 1], tf.int64),
    level=tf.constant([2, 1, 1, 2]),
    position=tf.constant([0, 1, 0, 1]),
)
BATCH = make_batch(REQUESTS, seed=tf.constant([0, 0], tf.int64))
QUERY = tf.constant([[1.0, 2.0], [3.0, -1.0]])
ITEM = tf.constant([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])


def test_every_pair_is_scored_and_every_slot_with_its_own_query() -> None:
    scores = compare(QUERY, ITEM, BATCH)
    assert_allclose(scores.candidate, [[1, 1.5, 4], [3, 1, -2]])
    assert_allclose(scores.slot, [1, 1.5, 1, -2])


def test_the_gradients_of_both_meet_in_the_embeddings() -> None:
    def weighed(query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        scores: Scores = compare(query, item, BATCH)
        of_all = tf.reduce_sum([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]] * scores.candidate)
        return of_all + tf.reduce_sum([10.0, 20.0, 40.0, 80.0] * scores.slot)

    theory, _ = tf.test.compute_gradient(weighed, [QUERY, ITEM])
    # What each pair weighs in all.
    weight = np.array([[11, 22, 3], [4, 45, 86]])
    assert_allclose(theory[0].reshape(2, 2), weight @ ITEM.numpy(), rtol=1e-4)
    assert_allclose(theory[1].reshape(3, 2), weight.T @ QUERY.numpy(), rtol=1e-4)


def test_one_of_them_alone_has_a_gradient_too() -> None:
    with tf.GradientTape() as tape:
        tape.watch(QUERY)
        loss = compare(QUERY, ITEM, BATCH).slot[3]
    assert_allclose(tape.gradient(loss, QUERY), [[0, 0], [0, 2]])
