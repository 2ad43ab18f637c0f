r"""Retrieval losses: pure functions of scores, one value for each positive; weighting and reduction are the caller's.

The abstract of MMSE (arXiv 2303.11009) names a retrieval loss with global comparison ability and gives no formula. The
formulas here are our reading of it and of its neighbours; docs/losses.md says which suits which data.
"""

from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse.negatives import mixed_negatives

# The exponential of it is exactly 0, and a difference of two of it is still finite.
_MASKED = tf.float32.min / 2
# Thresholds of `three_part_hinge_loss`.
POSITIVE_ABOVE, UNCLICKED_BELOW, NEGATIVE_BELOW = 0.9, 0.55, 0.2


class Comparison(NamedTuple):
    """What a retrieval loss looks at: P positives of B queries against C distinct candidates.

    Attributes:
        positive: [P] scores of the positives.
        row: [P] query that each positive belongs to.
        candidate: [B, C] scores of the queries against the candidates.
        is_negative: [B, C] bool; False where the candidate must not count against the query.
        is_unclicked: [B, C] bool; True where the query's own page showed the candidate without a click. Never a
            negative as well.
        log_inclusion_probability: [C] log of the probability that each item is a candidate; 0 for no correction.
    """

    positive: tf.Tensor
    row: tf.Tensor
    candidate: tf.Tensor
    is_negative: tf.Tensor
    is_unclicked: tf.Tensor
    log_inclusion_probability: tf.Tensor


def sampled_softmax_loss(
    compared: Comparison, *, temperature: float | tf.Tensor
) -> tf.Tensor:
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


def multi_positive_softmax_loss(
    compared: Comparison, *, temperature: float | tf.Tensor
) -> tf.Tensor:
    r"""Softmax cross entropy of a query's positives together: their sum stands inside the logarithm.

        loss_r = -log( sum_p exp(s_p / t) / (sum_p exp(s_p / t) + sum_j exp(s_rj / t) / P_j) )

    The multiple-instance form (MIL-NCE, Miech et al., CVPR 2020); Taobao's MOPPR (arXiv 2210.04170) has several
    positives in one softmax too, by a formula that is not available to us. One positive above all negatives satisfies
    it, so what is hardest to fetch gets little gradient: for logs in which many clicks are mistakes or duplicates.

    Args:
        compared: Scores of positives and negatives, corrected as in `sampled_softmax_loss`.
        temperature: Positive; smaller is sharper.

    Returns:
        [P]: each positive has its query's loss, in nats, so that the caller's weighted mean weighs a query by all of
        its positives; 0 where a query has no negative.
    """
    num_queries = tf.shape(compared.candidate)[0]
    scaled = compared.positive / temperature
    highest = tf.math.unsorted_segment_max(
        tf.stop_gradient(scaled), compared.row, num_queries
    )
    highest = tf.gather(highest, compared.row)
    total = tf.math.unsorted_segment_sum(
        tf.exp(scaled - highest), compared.row, num_queries
    )
    log_positive = tf.math.log(tf.gather(total, compared.row)) + highest
    log_sum = tf.gather(_log_sum(compared, temperature), compared.row)
    return tf.nn.softplus(log_sum - log_positive)


def mixed_softmax_loss(
    compared: Comparison, *, temperature: float | tf.Tensor, mixing: tf.Tensor
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
    draw is far enough away to have no gradient: use it with `hardest_negatives`. A wrong label's gradient is bounded;
    the margin needs tuning (arXiv 2006.11632).

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


def three_part_hinge_loss(compared: Comparison) -> tf.Tensor:
    r"""Thresholds of the score itself, squared: positives above 0.9, unclicked items below 0.55, others below 0.2.

        loss_p = max(0, 0.9 - s_p)^2 + mean over unclicked u of max(0, s_ru - 0.55)^2
                                     + mean over negatives j of max(0, s_rj - 0.2)^2, weighted by 1 / P_j

    The loss of Amazon's semantic product search (arXiv 1907.00937), whose parts are purchased, impressed but not
    purchased, and random items. Deviations, which are ours: a click is a positive as well as an order (their weights
    differ), only unclicked items are the middle part, and each part is a mean, so that thousands of negatives do not
    outweigh one positive. Scores must lie in [-1, 1], as our towers' do.

    For logs with many unclicked items and a use of the score's absolute value, such as cutting off a result list.

    Args:
        compared: Scores of positives, unclicked items and negatives.

    Returns:
        [P] losses.
    """
    unclicked = _mean(
        tf.square(tf.nn.relu(compared.candidate - UNCLICKED_BELOW)),
        tf.cast(compared.is_unclicked, tf.float32),
    )
    negative = _mean(
        tf.square(tf.nn.relu(compared.candidate - NEGATIVE_BELOW)), _weight(compared)
    )
    positive = tf.square(tf.nn.relu(POSITIVE_ABOVE - compared.positive))
    return positive + tf.gather(unclicked + negative, compared.row)


def adaptive_temperature(compared: Comparison) -> tf.Tensor:
    r"""A temperature from the spread of the negatives' scores, with no value to fix or to train.

        t = sigma / sqrt(2 log N)

    sigma is the standard deviation of a query's negatives, N their number, both estimated for the catalogue by counting
    each negative 1 / P_j and averaged over the batch. Why so: among N normal scores the largest lies sqrt(2 log N)
    standard deviations above the mean, and this t is where a softmax over them turns from "all take part" to "the
    hardest few are all" (the freezing temperature of the random energy model, Derrida, 1981). As training spreads the
    scores, t grows with them, and the loss stays about as sharp.

    JD's adaptive hyper-parameters (EMNLP 2023 Industry, paper 72) derive the temperature from the batch's similarities
    too; their formula is not available to us, and this one is our reading. No gradient passes through it.

    Args:
        compared: Scores of positives and negatives.

    Returns:
        Scalar, at least 0.001.
    """
    weight = _weight(compared)
    total = tf.reduce_sum(weight, axis=1)
    mean = _mean(compared.candidate, weight)
    variance = _mean(tf.square(compared.candidate - mean[:, None]), weight)
    has_negatives = tf.cast(total > 0, tf.float32)
    num_queries = tf.maximum(tf.reduce_sum(has_negatives), 1.0)
    deviation = tf.sqrt(tf.reduce_sum(variance) / num_queries)
    num_negatives = tf.maximum(tf.reduce_sum(total) / num_queries, 2.0)
    temperature = deviation / tf.sqrt(2 * tf.math.log(num_negatives))
    return tf.stop_gradient(tf.maximum(temperature, 1e-3))


def _corrected(compared: Comparison, temperature: float | tf.Tensor) -> tf.Tensor:
    corrected = (
        compared.candidate / temperature - compared.log_inclusion_probability[None, :]
    )
    return tf.where(compared.is_negative, corrected, _MASKED)


def _log_sum(compared: Comparison, temperature: float | tf.Tensor) -> tf.Tensor:
    """[B] log of the estimated sum over the catalogue's negatives."""
    return tf.reduce_logsumexp(_corrected(compared, temperature), axis=1)


def _weight(compared: Comparison) -> tf.Tensor:
    """[B, C]: how many items of the catalogue each negative speaks for."""
    weight = tf.exp(-compared.log_inclusion_probability)[None, :]
    return tf.where(compared.is_negative, weight, 0.0)


def _mean(value: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Weighted mean over the last axis; 0 where all weights are 0."""
    return tf.math.divide_no_nan(
        tf.reduce_sum(weight * value, axis=-1), tf.reduce_sum(weight, axis=-1)
    )
