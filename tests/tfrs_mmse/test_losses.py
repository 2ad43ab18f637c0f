"""Expected values are worked out by hand; exp(score) are small integers so that a reader can check them."""

from math import log

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse.losses import pairwise_logistic_loss, sampled_softmax_loss


def softmax_loss(
    positive: list[float],
    negative: list[list[float]],
    *,
    row: list[int] | None = None,
    mask: list[list[bool]] | None = None,
    log_inclusion_probability: list[float] | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    return sampled_softmax_loss(
        tf.constant(positive, tf.float32),
        tf.constant(negative, tf.float32),
        row=tf.constant(row if row is not None else range(len(positive)), tf.int64),
        is_negative=tf.constant(mask)
        if mask is not None
        else tf.ones_like(negative, tf.bool),
        log_inclusion_probability=tf.constant(
            log_inclusion_probability or [0.0] * len(negative[0]), tf.float32
        ),
        temperature=temperature,
    ).numpy()


def test_softmax_matches_hand_computed_values():
    # exp(positive) = 3 and 1, exp(negatives) = [1, 2] and [1, 1]: p = 3 / (3 + 3) and 1 / (1 + 2).
    assert_allclose(
        softmax_loss([log(3), 0], [[0, log(2)], [0, 0]]),
        [log(6 / 3), log(3)],
        rtol=1e-6,
    )


def test_softmax_divides_scores_by_the_temperature():
    # At temperature 1/2 exp(score / t) is squared: p = 9 / (9 + 4).
    assert_allclose(
        softmax_loss([log(3)], [[log(2)]], temperature=0.5), [log(13 / 9)], rtol=1e-6
    )


def test_a_negative_that_is_rarely_among_the_candidates_speaks_for_the_many_that_are_not() -> (
    None
):
    # P = (1/2, 1/4): the sum is 2 + 4 = 6, p = 3 / 9.
    loss = softmax_loss(
        [log(3)], [[0, 0]], log_inclusion_probability=[log(1 / 2), log(1 / 4)]
    )
    assert_allclose(loss, [log(9 / 3)], rtol=1e-6)


def test_on_average_the_sampled_sum_is_the_sum_over_the_catalogue() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50)
    probability = rng.uniform(0.1, 0.9, size=50)
    sums = []
    for _ in range(400):
        drawn = rng.uniform(size=50) < probability
        loss = softmax_loss(
            [0.0],
            [list(scores[drawn])],
            log_inclusion_probability=list(np.log(probability[drawn])),
        )
        sums.append(np.expm1(loss[0]))  # loss = log(1 + sum)
    # Three standard errors of the mean; the sum over all 50 items, in NumPy.
    error = 3 * np.std(sums) / np.sqrt(len(sums))
    assert (
        abs(np.mean(sums) - np.exp(scores).sum()) < error < 0.05 * np.exp(scores).sum()
    )


def test_positives_of_one_query_do_not_compete_with_each_other():
    both = softmax_loss([log(3), log(5)], [[0.0]], row=[0, 0])
    assert_allclose(both, [log(4 / 3), log(6 / 5)], rtol=1e-6)


def test_a_masked_negative_is_as_if_it_were_not_there():
    masked = softmax_loss([0.5], [[1.0, 80.0, -2.0]], mask=[[True, False, True]])
    assert_allclose(masked, softmax_loss([0.5], [[1.0, -2.0]]), rtol=1e-6)


def test_adding_a_constant_to_all_scores_of_a_query_changes_nothing():
    assert_allclose(
        softmax_loss([2.5], [[3.0, 1.0]]), softmax_loss([0.5], [[1.0, -1.0]]), rtol=1e-6
    )


def test_the_order_of_candidates_does_not_matter():
    counts = [0.1, -0.7, 0.4]
    forward = softmax_loss([0.5], [[1.0, 2.0, 3.0]], log_inclusion_probability=counts)
    assert_allclose(
        forward,
        softmax_loss([0.5], [[3.0, 2.0, 1.0]], log_inclusion_probability=counts[::-1]),
        rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_without_any_negative_loss_is_zero_and_gradient_finite(scale: float):
    positive, negative = tf.Variable([scale]), tf.Variable([[scale, -scale]])
    with tf.GradientTape() as tape:
        loss = sampled_softmax_loss(
            positive,
            negative,
            row=tf.constant([0]),
            is_negative=tf.constant([[False, False]]),
            log_inclusion_probability=tf.zeros([2]),
            temperature=0.05,
        )
    assert_allclose(loss, [0.0])
    for gradient in tape.gradient(loss, [positive, negative]):
        assert_allclose(gradient, tf.zeros_like(gradient))


def pairwise(
    score: list[list[float]], level: list[list[int]], temperature: float = 1.0
) -> np.ndarray:
    return pairwise_logistic_loss(
        tf.constant(score, tf.float32), tf.constant(level), temperature=temperature
    ).numpy()


def test_pairwise_matches_hand_computed_values():
    # ordered log 4 > clicked log 2 > unclicked 0. The pairs' odds are 4/2, 4/1, 2/1:
    # losses log(1 + 1/2), log(1 + 1/4), log(1 + 1/2).
    expected = (log(3 / 2) + log(5 / 4) + log(3 / 2)) / 3
    assert_allclose(pairwise([[log(4), log(2), 0]], [[3, 2, 1]]), [expected], rtol=1e-6)


def test_pairwise_counts_only_pairs_of_different_levels():
    # Two clicked items against one unclicked: odds 3/1 and 1/1, and nothing between the two.
    assert_allclose(
        pairwise([[log(3), 0, 0]], [[2, 2, 1]]), [(log(4 / 3) + log(2)) / 2], rtol=1e-6
    )


def test_pairwise_divides_differences_by_the_temperature():
    assert_allclose(
        pairwise([[log(3), 0]], [[2, 1]], temperature=0.5), [log(1 + 1 / 9)], rtol=1e-6
    )


def test_padding_takes_part_in_no_pair():
    padded = pairwise([[0.3, -0.2, 99.0, -99.0]], [[3, 1, -1, -1]])
    assert_allclose(padded, pairwise([[0.3, -0.2]], [[3, 1]]), rtol=1e-6)


def test_a_request_with_one_level_has_no_ranking_loss_and_a_finite_gradient():
    score = tf.Variable([[0.1, 0.2]])
    with tf.GradientTape() as tape:
        loss = pairwise_logistic_loss(score, tf.constant([[2, 2]]), temperature=1.0)
    assert_allclose(loss, [0.0])
    assert_allclose(tape.gradient(loss, score), [[0.0, 0.0]])


def test_swapping_a_wrong_pair_lowers_the_loss():
    assert pairwise([[1.0, 0.0]], [[2, 1]]) < pairwise([[0.0, 1.0]], [[2, 1]])


def test_the_loss_of_a_shard_is_the_shard_of_the_loss():
    score, level = [[0.3, 0.1], [0.9, -1.0]], [[3, 2], [1, 2]]
    assert_allclose(
        pairwise(score, level)[1:], pairwise(score[1:], level[1:]), rtol=1e-6
    )
