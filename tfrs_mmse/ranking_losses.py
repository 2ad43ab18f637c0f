r"""Ranking losses: inside one request, items of a higher level should score above those of a lower one.

The abstract of MMSE (arXiv 2303.11009) names a ranking loss with local comparison ability and gives no formula. Pure
functions of padded scores and levels, one value for each request; reduction is the caller's.
"""

import tensorflow as tf

from tfrs_mmse import schema


def pairwise_logistic_loss(
    score: tf.Tensor, level: tf.Tensor, *, weight: tf.Tensor, temperature: float
) -> tf.Tensor:
    r"""Every pair of different levels in its order, without an end to how far apart.

        loss_r = mean over pairs (i, j) with level_i > level_j of w_i w_j log(1 + exp(-(s_i - s_j) / t))

    The pairwise logistic loss of RankNet (Burges et al., ICML 2005), averaged over a request's pairs so that long
    pages weigh no more than short ones. The default: smooth, and each pair of a page counts alike.

    Args:
        score: [B, M] scores, padded.
        level: [B, M] int levels, -1 where padded.
        weight: [B, M] weights of the items, as of `unclicked_weight`. The mean is over the number of pairs: a request
            whose items weigh little has little to say.
        temperature: Positive; the score difference that counts as one unit.

    Returns:
        [B] losses; 0 where a request has no such pair.
    """
    return _mean_over_pairs(
        tf.nn.softplus(-_difference(score) / temperature), level, weight
    )


def pairwise_hinge_loss(
    score: tf.Tensor, level: tf.Tensor, *, weight: tf.Tensor, margin: float
) -> tf.Tensor:
    r"""Every pair of different levels in its order and a margin apart; what is far enough apart has no gradient.

        loss_r = mean over pairs (i, j) with level_i > level_j of w_i w_j max(0, margin - (s_i - s_j))

    The pairwise hinge of the ranking SVM (Herbrich et al., 2000; Joachims, KDD 2002). It leaves alone what is in order,
    so it disturbs retrieval least: for logs whose unclicked items are mostly relevant and merely lost the comparison.

    Args:
        score: [B, M] scores, padded.
        level: [B, M] int levels, -1 where padded.
        weight: [B, M] weights of the items.
        margin: At least 0, in units of the score.

    Returns:
        [B] losses; 0 where a request has no such pair.
    """
    return _mean_over_pairs(tf.nn.relu(margin - _difference(score)), level, weight)


def listwise_loss(
    score: tf.Tensor, level: tf.Tensor, *, weight: tf.Tensor, temperature: float
) -> tf.Tensor:
    r"""Every item that has lower ones below it is chosen first from among itself and all of those.

        loss_r = mean over i of -w_i log( exp(s_i / t) / (exp(s_i / t) + sum_{j: level_j < level_i} w_j exp(s_j / t)) )

    The Plackett-Luce likelihood behind ListMLE (Xia et al., ICML 2008), for a ranking that is known by level only:
    items of one level do not compete, as in `losses.sampled_softmax_loss`. Its gradient goes to the lower items that
    score highest, where the pairwise losses push all of them alike: for long pages with few clicks.

    Args:
        score: [B, M] scores, padded.
        level: [B, M] int levels, -1 where padded.
        weight: [B, M] weights of the items.
        temperature: Positive; smaller is sharper.

    Returns:
        [B] losses; 0 where a request has no items of two levels.
    """
    is_below = _is_pair(level) & (weight > 0)[:, None, :]
    # log 0 is never taken: its gradient would be no number even where it is masked.
    log_weight = tf.math.log(tf.where(weight > 0, weight, 1.0))
    below = (score / temperature + log_weight)[:, None, :]
    log_sum = tf.reduce_logsumexp(tf.where(is_below, below, tf.float32.min / 2), axis=2)
    loss = weight * tf.nn.softplus(log_sum - score / temperature)
    has_lower = tf.reduce_any(_is_pair(level), axis=2)
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(has_lower, loss, 0.0), axis=1),
        tf.reduce_sum(tf.cast(has_lower, tf.float32), axis=1),
    )


def unclicked_weight(
    level: tf.Tensor, position: tf.Tensor, *, exponent: float
) -> tf.Tensor:
    r"""How much the comparison with each item counts: less for an unclicked one far below the last click.

        w_i = (1 + max(0, position_i - position of the last click))^-exponent   for unclicked items, else 1

    Users who look down the page have seen what stands above their last click and probably not what stands far below
    (the cascade: Craswell et al., WSDM 2008). That the chance of having been looked at falls with a power of the
    distance follows the usual propensity of position-biased click logs (Joachims et al., WSDM 2017); counting it from
    the last click is ours. A large exponent leaves only what stands above.

    Args:
        level: [B, M] int levels, -1 where padded.
        position: [B, M] 0-based rank on the page, -1 where unknown.
        exponent: At least 0; 0 weighs all alike.

    Returns:
        [B, M] float32 in [0, 1]; 1 where a position is unknown, or those of all the request's clicks are.
    """
    is_unclicked = level == schema.Level.UNCLICKED
    clicked_position = tf.where(level >= schema.Level.CLICKED, position, -1)
    last_click = tf.reduce_max(clicked_position, axis=1, keepdims=True)
    is_known = (position >= 0) & (last_click >= 0)
    distance = tf.cast(tf.maximum(position - last_click, 0), tf.float32)
    return tf.where(is_unclicked & is_known, tf.pow(1 + distance, -exponent), 1.0)


def _is_pair(level: tf.Tensor) -> tf.Tensor:
    """[B, M, M] bool: the first item is of a higher level than the second, and the second is there."""
    return (level[:, :, None] > level[:, None, :]) & (level[:, None, :] >= 0)


def _difference(score: tf.Tensor) -> tf.Tensor:
    return score[:, :, None] - score[:, None, :]


def _mean_over_pairs(loss: tf.Tensor, level: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """[B, M, M] -> [B]."""
    is_pair = _is_pair(level)
    weighted = weight[:, :, None] * weight[:, None, :] * loss
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(is_pair, weighted, 0.0), axis=(1, 2)),
        tf.reduce_sum(tf.cast(is_pair, tf.float32), axis=(1, 2)),
    )
