"""Expected values are worked out by hand; exp(score) are small integers so that a reader can check them."""

from collections.abc import Callable
from functools import partial
from math import log

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse import losses
from tfrs_mmse.losses import Comparison


def comparison(
    positive: list[float],
    negative: list[list[float]],
    *,
    row: list[int] | None = None,
    mask: list[list[bool]] | None = None,
    probability: list[float] | None = None,
) -> Comparison:
    score = tf.constant(negative, tf.float32)
    return Comparison(
        positive=tf.constant(positive, tf.float32),
        row=tf.constant(row if row is not None else range(len(positive)), tf.int32),
        candidate=score,
        is_negative=tf.ones_like(score, tf.bool) if mask is None else tf.constant(mask),
        log_inclusion_probability=tf.math.log(
            tf.constant(probability or [1.0] * score.shape[1], tf.float32)
        ),
    )


softmax = partial(losses.sampled_softmax_loss, temperature=1.0)
hinge = partial(losses.hinge_loss, margin=0.5)


def mixed(compared: Comparison) -> tf.Tensor:
    mixing = tf.tile([[0.5, 0.25]], [tf.size(compared.positive), 1])
    return losses.mixed_softmax_loss(compared, temperature=1.0, mixing=mixing)


SOFTMAX = [softmax, mixed]
ALL = [*SOFTMAX, hinge]
Loss = Callable[[Comparison], tf.Tensor]


# Laws of every retrieval loss.


@pytest.mark.parametrize("loss", ALL)
def test_a_masked_negative_is_as_if_it_were_not_there(loss: Loss) -> None:
    masked = comparison([0.5], [[0.7, 80.0, -0.2]], mask=[[True, False, True]])
    assert_allclose(loss(masked), loss(comparison([0.5], [[0.7, -0.2]])), rtol=1e-5)


@pytest.mark.parametrize("loss", ALL)
def test_the_order_of_candidates_does_not_matter(loss: Loss) -> None:
    forward = comparison([0.5], [[0.1, 0.9, 0.4]], probability=[0.2, 0.9, 0.5])
    backward = comparison([0.5], [[0.4, 0.9, 0.1]], probability=[0.5, 0.9, 0.2])
    assert_allclose(loss(forward), loss(backward), rtol=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_a_better_positive_and_worse_negatives_lower_the_loss(loss: Loss) -> None:
    before = loss(comparison([0.5], [[0.6, 0.1]]))
    assert loss(comparison([0.6], [[0.6, 0.1]])) < before
    assert loss(comparison([0.5], [[0.5, 0.1]])) < before


@pytest.mark.parametrize("loss", ALL)
def test_the_loss_of_a_shard_is_the_shard_of_the_loss(loss: Loss) -> None:
    whole = comparison(
        [0.3, 0.5, 0.1], [[0.2, 0.4], [0.9, -0.5]], row=[0, 1, 1], probability=[0.5, 1]
    )
    shard = comparison([0.5, 0.1], [[0.9, -0.5]], row=[0, 0], probability=[0.5, 1])
    assert_allclose(loss(whole)[1:], loss(shard), rtol=1e-6)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_without_any_negative_the_gradient_is_finite(loss: Loss, scale: float) -> None:
    positive, negative = tf.Variable([scale]), tf.Variable([[scale, -scale]])
    compared = comparison([0.0], [[0.0, 0.0]], mask=[[False, False]])
    with tf.GradientTape() as tape:
        value = loss(compared._replace(positive=positive, candidate=negative))
    assert_allclose(value, [0.0])
    for gradient in tape.gradient(value, [positive, negative]):
        dense = tf.convert_to_tensor(gradient)
        assert_allclose(dense, tf.zeros_like(dense))


@pytest.mark.parametrize("loss", ALL)
def test_no_positive_and_no_candidate_are_no_error(loss: Loss) -> None:
    nobody = comparison([], [[0.1, 0.2]], row=[])
    assert loss(nobody).shape == [0]
    nothing = comparison([0.5], [[]], mask=tf.zeros([1, 0], tf.bool))
    assert np.isfinite(loss(nothing)).all()


@pytest.mark.parametrize("loss", SOFTMAX)
def test_adding_a_constant_to_all_scores_of_a_query_changes_no_softmax(
    loss: Loss,
) -> None:
    assert_allclose(
        loss(comparison([2.5], [[3.0, 1.0]])),
        loss(comparison([0.5], [[1.0, -1.0]])),
        rtol=1e-6,
    )


# What sets each loss apart.


def test_a_softmax_divides_scores_by_the_temperature() -> None:
    # At temperature 1/2 exp(score / t) is squared: p = 9 / (9 + 4).
    loss = losses.sampled_softmax_loss(
        comparison([log(3)], [[log(2)]]), temperature=0.5
    )
    assert_allclose(loss, [log(13 / 9)], rtol=1e-6)


def test_a_negative_that_is_rarely_among_the_candidates_speaks_for_the_many_that_are_not() -> (
    None
):
    # P = (1/2, 1/4): the sum is 2 + 4 = 6, p = 3 / 9.
    compared = comparison([log(3)], [[0, 0]], probability=[1 / 2, 1 / 4])
    assert_allclose(softmax(compared), [log(9 / 3)], rtol=1e-6)


def test_softmax_matches_hand_computed_values() -> None:
    # exp(positive) = 3 and 1, exp(negatives) = [1, 2] and [1, 1]: p = 3 / (3 + 3) and 1 / (1 + 2).
    compared = comparison([log(3), 0], [[0, log(2)], [0, 0]])
    assert_allclose(softmax(compared), [log(6 / 3), log(3)], rtol=1e-6)


def test_positives_of_one_query_do_not_compete_in_the_softmax() -> None:
    both = softmax(comparison([log(3), log(5)], [[0.0]], row=[0, 0]))
    assert_allclose(both, [log(4 / 3), log(6 / 5)], rtol=1e-6)


def test_mixed_negatives_join_the_sum_uncorrected() -> None:
    # Scores 4 log 2 against log 2 (the hardest by its term 2 / 1) and 0 (term 1 / 1): mixed at 1/2 with log 2:
    # exp = 2^2.5; at 1/4 with 0: exp = 2^1.
    compared = comparison([4 * log(2)], [[0, log(2), 9]], mask=[[True, True, False]])
    expected = log((16 + 1 + 2 + 2**2.5 + 2) / 16)
    assert_allclose(mixed(compared), [expected], rtol=1e-6)


def test_the_hardest_to_mix_with_are_chosen_after_the_correction() -> None:
    # Terms exp(0) / (1/8) = 8 and exp(log 2) / 1 = 2: the first is mixed at 1/2, the second at 1/4.
    compared = comparison([log(4)], [[0, log(2)]], probability=[1 / 8, 1])
    expected = log((4 + 8 + 2 + 4**0.5 + 4**0.25 * 2**0.75) / 4)
    assert_allclose(mixed(compared), [expected], rtol=1e-6)


def test_fewer_negatives_than_mixes_give_fewer_mixes() -> None:
    one = comparison([log(4)], [[0.0, 5.0]], mask=[[True, False]])
    assert_allclose(mixed(one), [log((4 + 1 + 2) / 4)], rtol=1e-6)
    assert_allclose(mixed(comparison([log(4)], [[0.0]])), mixed(one), rtol=1e-6)


def test_hinge_matches_hand_computed_values() -> None:
    # Violations of the margin 0.5: 0.5 - 0.6 + 0.2 = 0.1, 0.5 - 0.6 + 0.7 = 0.6, and none.
    compared = comparison([0.6], [[0.2, 0.7, -0.3]])
    assert_allclose(hinge(compared), [(0.1 + 0.6 + 0) / 3], rtol=1e-5)


def test_hinge_is_the_mean_over_the_catalogue_that_the_negatives_speak_for() -> None:
    # Drawn with 1/2 and 1/4, they speak for 2 and 4 items: violations 0.1 and 0.6.
    compared = comparison([0.6], [[0.2, 0.7]], probability=[1 / 2, 1 / 4])
    assert_allclose(hinge(compared), [(2 * 0.1 + 4 * 0.6) / 6], rtol=1e-5)


def test_what_is_a_margin_away_has_no_gradient() -> None:
    positive = tf.Variable([0.9])
    compared = comparison([0], [[0.3, 0.39]])
    with tf.GradientTape() as tape:
        loss = hinge(compared._replace(positive=positive))
    assert_allclose(tape.gradient(loss, positive), [0.0])


def test_the_gradient_of_the_softmax_is_that_of_its_formula() -> None:
    # Two positives of one query, a masked negative, a query without any negative, and two probabilities.
    def loss(score: tf.Tensor) -> tf.Tensor:
        compared = comparison(
            [0.5, 0.1, 0.3],
            np.zeros([3, 3]).tolist(),
            row=[0, 0, 2],
            mask=[[True, False, True], [True, True, True], [False, False, False]],
            probability=[0.5, 0.25, 1.0],
        )
        return losses.sampled_softmax_loss(
            compared._replace(candidate=score), temperature=0.5
        )

    score = tf.constant([[0.2, 9.0, -0.4], [0.1, 0.2, 0.3], [0.7, 0.8, 0.9]])
    (theory,), (measured,) = tf.test.compute_gradient(loss, [score], delta=1e-2)
    assert_allclose(theory, measured, atol=2e-3)
    assert np.abs(measured).max() > 0.5
