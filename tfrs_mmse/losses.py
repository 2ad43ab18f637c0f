r"""Retrieval losses: pure functions of scores, one value for each positive; weighting and reduction are the caller's.

The abstract of MMSE (arXiv 2303.11009) names a retrieval loss with global comparison ability and gives no formula. The
formulas here are our reading of it and of its neighbours; docs/losses.md says which suits which data.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse.negatives import mixed_negatives

# The exponential of it is exactly 0, and a difference of two of it is still finite.
_MASKED = tf.float32.min / 2


class Comparison(NamedTuple):
    """What a retrieval loss looks at: P positives of B queries against C distinct candidates.

    Attributes:
        positive: [P] scores of the positives.
        row: [P] query that each positive belongs to.
        candidate: [B, C] scores of the queries against the candidates.
        is_negative: [B, C] bool; False where the candidate must not count against the query.
        log_inclusion_probability: [C] log of the probability that each item is a candidate; 0 for no correction.
    """

    positive: tf.Tensor
    row: tf.Tensor
    candidate: tf.Tensor
    is_negative: tf.Tensor
    log_inclusion_probability: tf.Tensor


def sampled_softmax_loss(compared: Comparison, *, temperature: float) -> tf.Tensor:
    r"""Softmax cross entropy of each positive against the whole catalogue, estimated from sampled negatives.

    For a positive p of query r, with P_j the probability that item j is among the distinct candidates:

        loss_p = -log( exp(s_p / t) / (exp(s_p / t) + sum_j exp(s_rj / t) / P_j) )

    Each negative counts 1 / P_j, so the sum's expectation is the sum over the whole catalogue (Horvitz and Thompson,
    1952; importance sampling as in Bengio and Senecal, 2008). The "log Q correction" of Yi et al. (RecSys 2019) has the
    same purpose; there the positive is corrected too, here it is not, because it is always in the sum. With P = 1 it
    is the plain in-batch softmax. Positives of one query do not compete with each other: over a query's positives, the
    caller's mean is the mean of single-positive losses, which asks for *every* one of them. The default: it compares
    with the whole catalogue, as retrieval will.

    Args:
        compared: Scores of positives and negatives.
        temperature: Positive; smaller is sharper.

    Returns:
        [P] losses in nats; 0 where a query has no negative.
    """
    log_sum = tf.gather(_log_sum(compared, temperature), compared.row)
    return tf.nn.softplus(log_sum - compared.positive / temperature)


def mixed_softmax_loss(
    compared: Comparison, *, temperature: float, mixing: tf.Tensor
) -> tf.Tensor:
    r"""`sampled_softmax_loss` with further negatives made of each positive and its query's hardest ones.

        loss_p = -log( exp(s_p / t) / (exp(s_p / t) + sum_j exp(s_rj / t) / P_j + sum_k exp(s_mix,pk / t)) )

    with `negatives.mixed_negatives`, as Taobao's MGDSPR (arXiv 2106.09297) adds I_mix to its softmax. The hardest are
    those with the largest terms of the corrected sum. A mixed item is none of the catalogue's, so each counts once,
    and the loss is no estimate of the full softmax: it is that plus a margin. For clean labels and a catalogue of near
    duplicates, where ordinary negatives soon become too easy.

    Args:
        compared: Scores of positives and negatives.
        temperature: Positive; smaller is sharper.
        mixing: [P, K] the positive's share in each mixed negative, in [0, 1].

    Returns:
        [P] losses in nats; 0 where a query has no negative.
    """
    corrected = _corrected(compared, temperature)
    num_mixed = tf.minimum(tf.shape(mixing)[1], tf.shape(corrected)[1])
    hardest = tf.math.top_k(corrected, num_mixed)
    score = tf.gather(compared.candidate, hardest.indices, batch_dims=1)
    mixed = mixed_negatives(
        compared.positive[:, None],
        tf.gather(score, compared.row),
        mixing[:, :num_mixed],
    )
    is_there = tf.gather(hardest.values > _MASKED, compared.row)
    terms = tf.concat(
        [
            tf.gather(_log_sum(compared, temperature), compared.row)[:, None],
            tf.where(is_there, mixed / temperature, _MASKED),
        ],
        axis=1,
    )
    log_sum = tf.reduce_logsumexp(terms, axis=1)
    return tf.nn.softplus(log_sum - compared.positive / temperature)


def hinge_loss(compared: Comparison, *, margin: float) -> tf.Tensor:
    r"""Each positive should score above each negative of its query by a margin.

        loss_p = sum_j v_j max(0, margin - s_p + s_rj) / sum_j v_j,    v_j = 1 / P_j

    The pairwise hinge of JD's DPSR (arXiv 2006.02282). The weights v make it an estimate of the mean over the whole
    catalogue (Hajek, 1971); with P = 1 it is the plain mean over the negatives that were drawn. Nearly all of a large
    draw is far enough away to have no gradient. A wrong label's gradient is bounded; the margin needs tuning
    (arXiv 2006.11632).

    Args:
        compared: Scores of positives and negatives.
        margin: At least 0, in units of the score.

    Returns:
        [P] losses in units of the score; 0 where a query has no negative.
    """
    violation = tf.nn.relu(
        margin
        - compared.positive[:, None]
        + tf.gather(compared.candidate, compared.row)
    )
    return _mean(violation, tf.gather(_weight(compared), compared.row))


def _corrected(compared: Comparison, temperature: float) -> tf.Tensor:
    corrected = (
        compared.candidate / temperature - compared.log_inclusion_probability[None, :]
    )
    return tf.where(compared.is_negative, corrected, _MASKED)


def _log_sum(compared: Comparison, temperature: float) -> tf.Tensor:
    """[B] log of the estimated sum over the catalogue's negatives."""

    # Automatic differentiation of the same would make several more passes over [B, C] values.
    @tf.custom_gradient
    def log_sum(
        candidate: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        corrected = _corrected(compared._replace(candidate=candidate), temperature)
        highest = tf.reduce_max(corrected, axis=1, keepdims=True)
        term = tf.exp(corrected - highest)
        total = tf.reduce_sum(term, axis=1, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            of_sum = tf.convert_to_tensor(upstream)[:, None]  # from sparse slices
            return term * (of_sum / (total * temperature))

        return (tf.math.log(total) + highest)[:, 0], gradient

    return log_sum(compared.candidate)


def _weight(compared: Comparison) -> tf.Tensor:
    """[B, C]: how many items of the catalogue each negative speaks for."""
    weight = tf.exp(-compared.log_inclusion_probability)[None, :]
    return tf.where(compared.is_negative, weight, 0.0)


def _mean(value: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Weighted mean over the last axis; 0 where all weights are 0."""
    return tf.math.divide_no_nan(
        tf.reduce_sum(weight * value, axis=-1), tf.reduce_sum(weight, axis=-1)
    )
