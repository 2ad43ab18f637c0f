"""The corrected loss approaches the full softmax, however the negatives are drawn; wrongly corrected it does not.

The draws are made here, in NumPy, as training makes them: slots by the items' shares, with replacement, and uniform
items without. Only the correction and the loss are the library's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tfrs_mmse import losses, negatives

NUM_ITEMS, REPEATS, TEMPERATURE = 200, 2_000, 0.2
DRAWS = {"in-batch": (1.0, 0.0), "uniform": (0.0, 1.0), "mixed": (0.5, 0.5)}
SIZES = (20, 80, 160)
RNG = np.random.default_rng(0)
# A long tail, and popular items score higher than rare ones with this query: what makes an uncorrected loss wrong.
SHARE = 1 / np.arange(1, NUM_ITEMS + 1)
SHARE /= SHARE.sum()
SCORE = 0.1 * np.log(SHARE / SHARE.mean()) + 0.1 * RNG.normal(size=NUM_ITEMS)
POSITIVE = 0.3


Change = Callable[[tf.Tensor], tf.Tensor]


class Estimate(NamedTuple):
    """Means over many draws.

    Attributes:
        total: Sum of exp(score / t) over the negatives, over the full one.
        total_error: Standard error of it.
        loss: Nats.
        gradient: [NUM_ITEMS] of the loss, by the items' scores over the temperature.
    """

    total: float
    total_error: float
    loss: float
    gradient: np.ndarray


FULL_TERMS = np.exp(SCORE / TEMPERATURE)
FULL_SUM = np.exp(POSITIVE / TEMPERATURE) + FULL_TERMS.sum()
FULL_LOSS = np.log(FULL_SUM) - POSITIVE / TEMPERATURE
FULL_GRADIENT = FULL_TERMS / FULL_SUM


def draw(num_slots: int, num_uniform: int) -> np.ndarray:
    """[REPEATS, NUM_ITEMS] bool: the distinct items of as many batches."""
    rng = np.random.default_rng(1)
    rows = np.arange(REPEATS)[:, None]
    drawn = np.zeros((REPEATS, NUM_ITEMS), bool)
    slots = rng.choice(NUM_ITEMS, size=(REPEATS, num_slots), p=SHARE)
    drawn[rows, slots] = True
    uniform = rng.random((REPEATS, NUM_ITEMS)).argsort(axis=1)[:, :num_uniform]
    drawn[rows, uniform] = True
    return drawn


def comparison(
    draws: str, size: int, score: tf.Tensor, change: Change
) -> losses.Comparison:
    """REPEATS draws of `size` items, corrected by the library; `change` tampers with the correction."""
    slots, uniform = (int(size * share) for share in DRAWS[draws])
    log_inclusion = negatives.log_inclusion_probability(
        # Items that no slot can hold have no share.
        tf.constant(
            np.log(SHARE) if slots else np.full(NUM_ITEMS, -np.inf), tf.float32
        ),
        num_slots=tf.constant(slots),
        num_uniform=uniform,
        num_items=NUM_ITEMS,
    )
    return losses.Comparison(
        positive=tf.fill([REPEATS], POSITIVE),
        row=tf.range(REPEATS),
        candidate=score,
        is_negative=tf.constant(draw(slots, uniform)),
        log_inclusion_probability=change(log_inclusion),
    )


def estimate(draws: str, size: int, change: Change = tf.identity) -> Estimate:
    """The library's softmax loss on such draws."""
    score = tf.Variable(np.tile(SCORE, (REPEATS, 1)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = losses.sampled_softmax_loss(
            comparison(draws, size, score, change), temperature=TEMPERATURE
        )
    total = np.expm1(loss) * np.exp(POSITIVE / TEMPERATURE) / FULL_TERMS.sum()
    gradient = tf.reduce_mean(tape.gradient(loss, score), axis=0) * TEMPERATURE
    return Estimate(
        total=total.mean(),
        total_error=total.std() / np.sqrt(REPEATS),
        loss=float(tf.reduce_mean(loss)),
        gradient=gradient.numpy(),
    )


def gradient_error(found: Estimate) -> float:
    """L1 distance of the gradients, over the full one's norm."""
    return np.abs(found.gradient - FULL_GRADIENT).sum() / FULL_GRADIENT.sum()


@pytest.mark.parametrize("draws", DRAWS)
def test_the_sum_over_the_catalogue_is_estimated_without_bias(draws: str) -> None:
    for size in SIZES:
        found = estimate(draws, size)
        assert abs(found.total - 1) < 4 * found.total_error + 0.005, (size, found)
        assert found.total_error < 0.03


@pytest.mark.parametrize("draws", DRAWS)
def test_loss_and_gradient_approach_the_full_softmax_with_more_negatives(
    draws: str,
) -> None:
    found = [estimate(draws, size) for size in SIZES]
    loss_errors = [abs(f.loss - FULL_LOSS) for f in found]
    gradient_errors = [gradient_error(f) for f in found]
    assert gradient_errors == sorted(gradient_errors, reverse=True)
    # At most the noise of so many draws is left.
    assert loss_errors[-1] < 0.005 < loss_errors[0]
    assert gradient_errors[-1] < 0.03 < gradient_errors[0]


@pytest.mark.parametrize(
    "change", [tf.zeros_like, tf.negative], ids=["omitted", "sign turned"]
)
@pytest.mark.parametrize("draws", DRAWS)
def test_a_wrong_correction_is_seen_at_a_glance(draws: str, change: Change) -> None:
    found = estimate(draws, SIZES[1], change)
    assert abs(found.total - 1) > 0.2
    assert abs(found.loss - FULL_LOSS) > 0.1


@pytest.mark.parametrize("draws", DRAWS)
def test_the_hinge_approaches_its_mean_over_the_catalogue(draws: str) -> None:
    score = tf.constant(np.tile(SCORE, (REPEATS, 1)), tf.float32)
    full = np.maximum(0, 0.5 - POSITIVE + SCORE).mean()
    few, many = (
        float(
            tf.reduce_mean(
                losses.hinge_loss(
                    comparison(draws, size, score, tf.identity), margin=0.5
                )
            )
        )
        for size in (SIZES[0], SIZES[-1])
    )
    assert few == pytest.approx(full, rel=0.1)
    assert many == pytest.approx(full, rel=0.01)


@pytest.mark.parametrize("draws", ["in-batch", "mixed"])
def test_an_uncorrected_hinge_is_that_of_the_popular_items(draws: str) -> None:
    score = tf.constant(np.tile(SCORE, (REPEATS, 1)), tf.float32)
    full = np.maximum(0, 0.5 - POSITIVE + SCORE).mean()
    uncorrected = comparison(draws, SIZES[1], score, tf.zeros_like)
    loss = losses.hinge_loss(uncorrected, margin=0.5)
    assert float(tf.reduce_mean(loss)) > 1.2 * full
