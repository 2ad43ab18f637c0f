"""Which candidates may count against a query, and how likely each is to be among them. Pure functions."""

import tensorflow as tf


def is_known_positive(
    candidate_key: tf.Tensor, positive_key: tf.RaggedTensor
) -> tf.Tensor:
    """Marks candidates that their query is known to have clicked or ordered, in whatever request.

    Args:
        candidate_key: [C] int64 item keys, distinct.
        positive_key: [B, (P)] int64 item keys.

    Returns:
        [B, C] bool.
    """
    order = tf.argsort(candidate_key)
    # What lies beyond the last candidate finds the largest integer there, which is no item's key.
    ascending = tf.concat([tf.gather(candidate_key, order), [tf.int64.max]], axis=0)
    place = tf.searchsorted(ascending, positive_key.flat_values)
    is_there = tf.gather(ascending, place) == positive_key.flat_values
    row = tf.boolean_mask(tf.cast(positive_key.value_rowids(), tf.int32), is_there)
    column = tf.gather(order, tf.boolean_mask(place, is_there))
    return _marked(
        row,
        column,
        tf.stack([tf.cast(positive_key.nrows(), tf.int32), tf.size(candidate_key)]),
    )


def is_own_item(request: tf.Tensor, slot: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Marks the candidates that a query's own request showed; the ranking loss compares those.

    Args:
        request: [N] number of the request that each slot belongs to.
        slot: [N] int32 number of the candidate that each slot holds.
        shape: [2] int32, B and C.

    Returns:
        [B, C] bool.
    """
    return _marked(tf.cast(request, tf.int32), slot, shape)


def log_inclusion_probability(
    log_probability: tf.Tensor,
    *,
    num_slots: tf.Tensor,
    num_uniform: int,
    num_items: int,
) -> tf.Tensor:
    """Log of the probability that each item is among the batch's distinct candidates, however it came there.

    An item is missed when none of the slots holds it, which is nearly Poisson, and the uniform draw, which is without
    replacement, leaves it out as well:

        P_j = 1 - exp(-num_slots * exp(log_probability_j)) * (1 - min(1, num_uniform / num_items))

    Args:
        log_probability: [C] log of each item's share of the training slots; -inf for items that have none.
        num_slots: Slots of the batch's requests.
        num_uniform: Items drawn uniformly from the catalogue.
        num_items: Items in the catalogue.

    Returns:
        [C] float32.
    """
    expected = tf.cast(num_slots, tf.float32) * tf.exp(log_probability)
    uniform = min(1.0, num_uniform / num_items)
    # As a sum of positive terms: 1 minus nearly 1 would lose the rare items' digits.
    return tf.math.log(-tf.math.expm1(-expected) + uniform * tf.exp(-expected))


def mixed_negatives(
    positive: tf.Tensor, hardest: tf.Tensor, mixing: tf.Tensor
) -> tf.Tensor:
    r"""Negatives on the line between a positive and its query's hardest negatives.

        mix_pk = mixing_pk positive_p + (1 - mixing_pk) hardest_pk

    I_mix of Taobao's MGDSPR (arXiv 2106.09297). As an inner product is linear, it may be given embeddings or scores.

    Args:
        positive: [P, 1, D] embeddings, or [P, 1] scores.
        hardest: [P, K, D] embeddings, or [P, K] scores.
        mixing: [P, K, 1] or [P, K] share of the positive, in [0, 1]; the harder, the nearer to 1.

    Returns:
        As `hardest`.
    """
    return mixing * positive + (1 - mixing) * hardest


def _marked(row: tf.Tensor, column: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    places = tf.stack([row, column], axis=1)
    return tf.tensor_scatter_nd_update(
        tf.zeros(shape, tf.bool), places, tf.ones_like(row, tf.bool)
    )
