r"""Losses as pure functions of scores; reduction and weighting are the caller's.

The abstract of MMSE (arXiv 2303.11009) names a retrieval loss with global and a ranking loss with local comparison
ability, and gives no formula. The formulas here are our reading.
"""

import tensorflow as tf

# The exponential of it is exactly 0, and a difference of two of it is still finite.
_MASKED = tf.float32.min / 2


def sampled_softmax_loss(
    positive_score: tf.Tensor,
    negative_score: tf.Tensor,
    *,
    row: tf.Tensor,
    is_negative: tf.Tensor,
    log_inclusion_probability: tf.Tensor,
    temperature: float,
) -> tf.Tensor:
    r"""Softmax cross entropy of each positive against the whole catalogue, estimated from sampled negatives.

    For a positive p of query r, with P_j the probability that item j is among the distinct candidates:

        loss_p = -log( exp(s_p / t) / (exp(s_p / t) + sum_j exp(s_rj / t) / P_j) )

    Each negative counts 1 / P_j, so the sum's expectation is the sum over the whole catalogue (Horvitz and Thompson,
    1952; importance sampling as in Bengio and Senecal, 2008). The "log Q correction" of Yi et al. (RecSys 2019) has the
    same purpose; there the positive is corrected too, here it is not, because it is always in the sum. With P = 1 it
    is the plain in-batch softmax. Positives of one query do not compete with each other.

    Args:
        positive_score: [P] scores of the positives.
        negative_score: [B, C] scores of B queries against C distinct candidates.
        row: [P] query that each positive belongs to.
        is_negative: [B, C] bool; False where the candidate must not count against the query.
        log_inclusion_probability: [C] log P_j.
        temperature: Positive; smaller is sharper.

    Returns:
        [P] losses in nats; 0 where a query has no negative.
    """
    corrected = negative_score / temperature - log_inclusion_probability[None, :]
    log_sum = tf.reduce_logsumexp(tf.where(is_negative, corrected, _MASKED), axis=1)
    return tf.nn.softplus(tf.gather(log_sum, row) - positive_score / temperature)


def pairwise_logistic_loss(
    score: tf.Tensor, level: tf.Tensor, *, temperature: float
) -> tf.Tensor:
    r"""Inside one request, an item of a higher level should score above one of a lower level.

        loss_r = mean over pairs (i, j) with level_i > level_j of log(1 + exp(-(s_i - s_j) / t))

    The pairwise logistic loss of RankNet (Burges et al., ICML 2005), averaged over a request's pairs so that long
    pages weigh no more than short ones.

    Args:
        score: [B, M] scores, padded.
        level: [B, M] int levels, -1 where padded.
        temperature: Positive; the score difference that counts as one unit.

    Returns:
        [B] losses; 0 where a request has no such pair.
    """
    is_pair = (level[:, :, None] > level[:, None, :]) & (level[:, None, :] >= 0)
    difference = (score[:, :, None] - score[:, None, :]) / temperature
    loss = tf.where(is_pair, tf.nn.softplus(-difference), 0.0)
    num_pairs = tf.reduce_sum(tf.cast(is_pair, tf.float32), axis=(1, 2))
    return tf.math.divide_no_nan(tf.reduce_sum(loss, axis=(1, 2)), num_pairs)
