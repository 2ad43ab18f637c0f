"""Expected values are worked out by hand; exp(score) are small integers so that a reader can check them."""

from collections.abc import Callable
from functools import partial
from math import log

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse import ranking_losses

Loss = Callable[..., np.ndarray]


def with_lists(loss: Callable[..., tf.Tensor], **parameters: float) -> Loss:
    """The loss for lists, with all weights 1 unless they are given."""

    def on_lists(
        score: list[list[float]],
        level: list[list[int]],
        weight: list[list[float]] | None = None,
    ) -> np.ndarray:
        scores = tf.constant(score, tf.float32)
        weights = tf.ones_like(scores) if weight is None else tf.constant(weight)
        return loss(scores, tf.constant(level), weight=weights, **parameters).numpy()

    return on_lists


logistic = with_lists(ranking_losses.pairwise_logistic_loss, temperature=1.0)
hinge = with_lists(ranking_losses.pairwise_hinge_loss, margin=0.5)
listwise = with_lists(ranking_losses.listwise_loss, temperature=1.0)
ALL = [logistic, hinge, listwise]


@pytest.mark.parametrize("loss", ALL)
def test_padding_takes_no_part(loss: Loss) -> None:
    padded = loss([[0.3, -0.2, 99.0, -99.0]], [[3, 1, -1, -1]])
    assert_allclose(padded, loss([[0.3, -0.2]], [[3, 1]]), rtol=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_swapping_a_wrong_pair_lowers_the_loss(loss: Loss) -> None:
    assert loss([[1.0, 0.0]], [[2, 1]]) < loss([[0.0, 1.0]], [[2, 1]])


@pytest.mark.parametrize("loss", ALL)
def test_only_differences_of_scores_matter(loss: Loss) -> None:
    level = [[3, 2, 1]]
    assert_allclose(
        loss([[7.3, 7.1, 7.6]], level), loss([[0.3, 0.1, 0.6]], level), rtol=1e-5
    )


@pytest.mark.parametrize("loss", ALL)
def test_the_loss_of_a_shard_is_the_shard_of_the_loss(loss: Loss) -> None:
    score, level = [[0.3, 0.1], [0.9, -1.0]], [[3, 2], [1, 2]]
    assert_allclose(loss(score, level)[1:], loss(score[1:], level[1:]), rtol=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_an_item_that_weighs_nothing_teaches_nothing(loss: Loss) -> None:
    ignored = loss([[0.2, 5.0]], [[2, 1]], [[1.0, 0.0]])
    assert_allclose(ignored, [0.0], atol=1e-6)


@pytest.mark.parametrize("loss", ALL)
def test_the_lighter_a_lower_item_the_lower_the_loss(loss: Loss) -> None:
    light, heavy = (
        loss([[0.2, 0.1]], [[2, 1]], [[1.0, weight]]) for weight in (0.25, 1.0)
    )
    assert 0 < light < heavy


@pytest.mark.parametrize(
    "loss",
    [
        partial(ranking_losses.pairwise_logistic_loss, temperature=1.0),
        partial(ranking_losses.pairwise_hinge_loss, margin=0.1),
        partial(ranking_losses.listwise_loss, temperature=0.01),
    ],
)
@pytest.mark.parametrize("weight", [[1.0, 1.0], [1.0, 0.0]])
def test_a_request_with_one_level_has_no_loss_and_a_finite_gradient(
    loss: Callable[..., tf.Tensor], weight: list[float]
) -> None:
    score = tf.Variable([[0.1, 0.2], [0.3, 0.1]])
    with tf.GradientTape() as tape:
        values = loss(
            score, tf.constant([[2, 2], [2, 1]]), weight=tf.constant([weight] * 2)
        )
    assert_allclose(values[0], 0.0)
    gradient = tape.gradient(values, score)
    assert_allclose(gradient[0], [0.0, 0.0])
    assert np.isfinite(gradient).all()


def test_logistic_matches_hand_computed_values() -> None:
    # ordered log 4 > clicked log 2 > unclicked 0. The pairs' odds are 4/2, 4/1, 2/1:
    # losses log(1 + 1/2), log(1 + 1/4), log(1 + 1/2).
    expected = (log(3 / 2) + log(5 / 4) + log(3 / 2)) / 3
    assert_allclose(logistic([[log(4), log(2), 0]], [[3, 2, 1]]), [expected], rtol=1e-6)


def test_logistic_counts_only_pairs_of_different_levels() -> None:
    # Two clicked items against one unclicked: odds 3/1 and 1/1, and nothing between the two.
    expected = (log(4 / 3) + log(2)) / 2
    assert_allclose(logistic([[log(3), 0, 0]], [[2, 2, 1]]), [expected], rtol=1e-6)


def test_logistic_divides_differences_by_the_temperature() -> None:
    sharp = with_lists(ranking_losses.pairwise_logistic_loss, temperature=0.5)
    assert_allclose(sharp([[log(3), 0]], [[2, 1]]), [log(1 + 1 / 9)], rtol=1e-6)


def test_a_pair_weighs_by_both_items_and_the_mean_is_over_the_pairs() -> None:
    # Odds 3/1 at weight 1/2 and 1/1 at weight 1.
    expected = (log(4 / 3) / 2 + log(2)) / 2
    weighted = logistic([[log(3), 0, log(3)]], [[2, 1, 1]], [[1.0, 0.5, 1.0]])
    assert_allclose(weighted, [expected], rtol=1e-6)


def test_hinge_matches_hand_computed_values() -> None:
    # Differences 0.2, 0.7, 0.5 against the margin 0.5: only the first is 0.3 short.
    assert_allclose(hinge([[0.9, 0.7, 0.2]], [[3, 2, 1]]), [0.3 / 3], rtol=1e-5)


def test_listwise_matches_hand_computed_values() -> None:
    # ordered 4 is chosen from 4 + 2 + 1, clicked 2 from 2 + 1; the unclicked one has nothing below it.
    expected = (log(7 / 4) + log(3 / 2)) / 2
    assert_allclose(listwise([[log(4), log(2), 0]], [[3, 2, 1]]), [expected], rtol=1e-6)


def test_items_of_one_level_do_not_compete_in_the_list() -> None:
    # Clicked 3 and 5, each against unclicked 1 alone.
    expected = (log(4 / 3) + log(6 / 5)) / 2
    assert_allclose(listwise([[log(3), log(5), 0]], [[2, 2, 1]]), [expected], rtol=1e-6)


def test_the_list_weighs_what_is_below() -> None:
    # 3 against 1 that counts a quarter, and 2 that counts whole.
    weighted = listwise([[log(3), 0, log(2)]], [[2, 1, 1]], [[1.0, 0.25, 1.0]])
    assert_allclose(weighted, [log((3 + 0.25 + 2) / 3)], rtol=1e-6)


def test_listwise_temperature_and_logistic_agree_on_one_pair() -> None:
    sharp = with_lists(ranking_losses.listwise_loss, temperature=0.5)
    assert_allclose(sharp([[log(3), 0]], [[2, 1]]), [log(1 + 1 / 9)], rtol=1e-6)


def unclicked_weight(
    level: list[list[int]], position: list[list[int]], exponent: float
) -> np.ndarray:
    return ranking_losses.unclicked_weight(
        tf.constant(level), tf.constant(position), exponent=exponent
    ).numpy()


def test_unclicked_items_weigh_less_the_farther_they_are_below_the_last_click() -> None:
    # The last click, an order, is at 3: above it 1, then distances 1 and 3. Clicked items and padding weigh 1.
    weight = unclicked_weight(
        [[2, 1, 3, 1, 1, -1]], [[0, 2, 3, 4, 6, -1]], exponent=2.0
    )
    assert_allclose(weight, [[1, 1, 1, 1 / 2**2, 1 / 4**2, 1]], rtol=1e-6)


def test_unknown_positions_weigh_one() -> None:
    # The first request does not know the unclicked item's position, the second that of the click.
    weight = unclicked_weight([[2, 1, 1], [2, 1, 1]], [[0, -1, 1], [-1, 3, 9]], 1.0)
    assert_allclose(weight, [[1, 1, 1 / 2], [1, 1, 1]], rtol=1e-6)


def test_exponent_zero_weighs_all_alike_and_a_large_one_keeps_what_is_above() -> None:
    level, position = [[1, 2, 1, 1]], [[0, 1, 2, 9]]
    assert_allclose(unclicked_weight(level, position, 0.0), [[1, 1, 1, 1]])
    assert_allclose(
        unclicked_weight(level, position, 200.0), [[1, 1, 0, 0]], atol=1e-30
    )
