import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import negatives


def test_known_positives_are_marked() -> None:
    candidates = tf.constant([7, 3, 9], tf.int64)
    positives = tf.ragged.constant(
        [[7], [9, 3], [], [100, 5]], dtype=tf.int64, row_splits_dtype=tf.int64
    )
    assert_array_equal(
        negatives.is_known_positive(candidates, positives),
        [
            [True, False, False],
            [False, True, True],
            [False, False, False],
            [False, False, False],
        ],
    )


def test_known_positives_agree_with_plain_membership():
    rng = np.random.default_rng(0)
    candidates = rng.permutation(60)[:40]
    positives = [list(rng.integers(0, 60, size=rng.integers(0, 9))) for _ in range(16)]
    found = negatives.is_known_positive(
        tf.constant(candidates, tf.int64),
        tf.ragged.constant(positives, dtype=tf.int64, row_splits_dtype=tf.int64),
    )
    assert_array_equal(found, [[c in row for c in candidates] for row in positives])


def test_no_query_has_positives():
    positives = tf.ragged.constant([[], []], dtype=tf.int64, row_splits_dtype=tf.int64)
    assert (
        not negatives.is_known_positive(tf.constant([1, 2], tf.int64), positives)
        .numpy()
        .any()
    )


def test_items_of_the_own_request_are_marked_wherever_else_they_were_shown() -> None:
    # Request 0 shows candidates 0 and 1, request 1 candidate 1, request 2 nothing; candidate 2 is a random one.
    own = negatives.is_own_item(
        tf.constant([0, 0, 1], tf.int64), tf.constant([0, 1, 1]), tf.constant([3, 3])
    )
    assert_array_equal(
        own, [[True, True, False], [False, True, False], [False, False, False]]
    )


def test_an_item_is_missed_when_neither_way_of_being_drawn_gives_it() -> None:
    # 100 slots at 1/50 expect it twice; 30 of 120 items are drawn uniformly.
    inclusion = negatives.log_inclusion_probability(
        tf.math.log([1 / 50, 0.0]),
        num_slots=tf.constant(100),
        num_uniform=30,
        num_items=120,
    )
    assert_allclose(np.exp(inclusion), [1 - np.exp(-2) * 3 / 4, 1 / 4], rtol=1e-6)


def test_a_catalogue_that_is_drawn_whole_needs_no_correction() -> None:
    inclusion = negatives.log_inclusion_probability(
        tf.constant([-1.0, -np.inf]),
        num_slots=tf.constant(5),
        num_uniform=8,
        num_items=4,
    )
    assert_allclose(inclusion, [0, 0], atol=1e-6)


def test_rare_items_keep_their_digits() -> None:
    inclusion = negatives.log_inclusion_probability(
        tf.constant([np.log(1e-9)], tf.float32),
        num_slots=tf.constant(10),
        num_uniform=0,
        num_items=10**9,
    )
    assert_allclose(np.exp(inclusion), [1e-8], rtol=1e-5)


def test_without_candidates_there_are_no_known_positives() -> None:
    positives = tf.ragged.constant([[5], []], dtype=tf.int64, row_splits_dtype=tf.int64)
    found = negatives.is_known_positive(tf.zeros([0], tf.int64), positives)
    assert found.shape == [2, 0]


def test_mixed_negatives_lie_between_the_hardest_and_the_positive() -> None:
    # A quarter of the way from (0, 4) to (4, 0), and from (8, 0) all the way.
    mixed = negatives.mixed_negatives(
        tf.constant([[[4.0, 0.0]]]),
        tf.constant([[[0.0, 4.0], [8.0, 0.0]]]),
        tf.constant([[[0.25], [1.0]]]),
    )
    assert_allclose(mixed, [[[1, 3], [4, 0]]])


def test_mixing_scores_is_mixing_embeddings() -> None:
    rng = np.random.default_rng(0)
    query, positive = rng.normal(size=(2, 3, 1, 8))
    hardest_items, mixing = rng.normal(size=(3, 5, 8)), rng.uniform(size=(3, 5))
    mixed = negatives.mixed_negatives(positive, hardest_items, mixing[..., None])
    of_embeddings = tf.reduce_sum(query * mixed, axis=-1)
    of_scores = negatives.mixed_negatives(
        tf.reduce_sum(query * positive, axis=-1),
        tf.reduce_sum(query * hardest_items, axis=-1),
        mixing,
    )
    assert_allclose(of_scores, of_embeddings, rtol=1e-9)
