"""Which candidates may count against a query, and how often each is expected among them. Pure functions."""

import tensorflow as tf


def is_known_positive(
    candidate_key: tf.Tensor, positive_key: tf.RaggedTensor
) -> tf.Tensor:
    """Marks candidates that their query is known to have clicked or ordered, in whatever request.

    Args:
        candidate_key: [N] int64 item keys; copies are allowed.
        positive_key: [B, (P)] int64 item keys.

    Returns:
        [B, N] bool.
    """
    unique, column = tf.unique(candidate_key)
    ordered = tf.argsort(unique)
    in_order = tf.gather(unique, ordered)
    num_unique = tf.size(unique)
    found_at = tf.searchsorted(in_order, positive_key.flat_values)
    at = tf.minimum(found_at, num_unique - 1)
    is_there = tf.gather(in_order, at) == positive_key.flat_values
    rows = tf.boolean_mask(tf.cast(positive_key.value_rowids(), tf.int32), is_there)
    columns = tf.boolean_mask(tf.gather(ordered, at), is_there)
    shape = tf.stack([tf.cast(positive_key.nrows(), tf.int32), num_unique])
    hits = tf.tensor_scatter_nd_update(
        tf.zeros(shape, tf.bool),
        tf.stack([rows, columns], axis=1),
        tf.ones_like(rows, tf.bool),
    )
    return tf.gather(hits, column, axis=1)


def is_own_item(
    request: tf.Tensor, num_requests: tf.Tensor, num_candidates: tf.Tensor
) -> tf.Tensor:
    """Marks the candidates that a query's own request showed; the ranking loss compares those.

    Args:
        request: [N] number of the request that each in-batch candidate belongs to; they are the first N candidates.
        num_requests: Number of queries, B.
        num_candidates: Number of candidates, >= N; the others belong to no request.

    Returns:
        [B, num_candidates] bool.
    """
    request = tf.cast(request, tf.int32)
    owner = tf.pad(
        request, [[0, num_candidates - tf.size(request)]], constant_values=-1
    )
    return tf.range(num_requests)[:, None] == owner[None, :]


def log_expected_count(
    log_probability: tf.Tensor,
    *,
    num_in_batch: tf.Tensor,
    num_uniform: int,
    num_items: int,
) -> tf.Tensor:
    """Log of how often each candidate is expected among in-batch and uniform candidates taken together.

        E_j = num_in_batch * exp(log_probability_j) + num_uniform / num_items

    Args:
        log_probability: [N] log of each item's share of the training slots; -inf for items that have none.
        num_in_batch: In-batch candidates.
        num_uniform: Candidates drawn uniformly from the catalogue.
        num_items: Items in the catalogue.

    Returns:
        [N] float32.
    """
    in_batch = tf.cast(num_in_batch, tf.float32) * tf.exp(log_probability)
    return tf.math.log(in_batch + num_uniform / num_items)
