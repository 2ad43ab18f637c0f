import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import negatives


def test_known_positives_are_marked_at_every_copy():
    candidates = tf.constant([7, 3, 7, 9], tf.int64)
    positives = tf.ragged.constant(
        [[7], [9, 3], [], [100, 5]], dtype=tf.int64, row_splits_dtype=tf.int64
    )
    assert_array_equal(
        negatives.is_known_positive(candidates, positives),
        [
            [True, False, True, False],
            [False, True, False, True],
            [False, False, False, False],
            [False, False, False, False],
        ],
    )


def test_known_positives_agree_with_plain_membership():
    rng = np.random.default_rng(0)
    candidates = rng.integers(0, 40, size=64)
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


def test_items_of_the_own_request_are_marked_and_random_ones_are_nobodys():
    own = negatives.is_own_item(
        tf.constant([0, 0, 2], tf.int64), tf.constant(3), tf.constant(5)
    )
    assert_array_equal(
        own,
        [
            [True, True, False, False, False],
            [False, False, False, False, False],
            [False, False, True, False, False],
        ],
    )


def test_expected_count_adds_both_ways_of_being_drawn():
    # 100 in-batch slots at probability 1/50 give 2; 30 of 120 items drawn uniformly give 1/4.
    expected = negatives.log_expected_count(
        tf.math.log([1 / 50, 0.0]),
        num_in_batch=tf.constant(100),
        num_uniform=30,
        num_items=120,
    )
    assert_allclose(np.exp(expected), [2.25, 0.25], rtol=1e-6)
