"""The scores of one step: every query against every candidate, once, for both objectives."""

from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse.batches import Batch


class Scores(NamedTuple):
    """Inner products of B queries and C distinct candidates.

    Attributes:
        candidate: [B, C] float32 of every query and every candidate.
        slot: [N] float32 of every slot of the requests: its own query and the item that it holds.
    """

    candidate: tf.Tensor
    slot: tf.Tensor


def compare(
    query_embedding: tf.Tensor,
    candidate_embedding: tf.Tensor,
    batch: Batch,
    *,
    dtype: tf.DType = tf.float32,
) -> Scores:
    """Scores a batch.

    Args:
        query_embedding: [B, D].
        candidate_embedding: [C, D].
        batch: What the embeddings are of.
        dtype: Of the product; the scores are float32 in any case.
    """
    query, candidate = (
        tf.cast(embedding, dtype)
        for embedding in (query_embedding, candidate_embedding)
    )
    score = tf.linalg.matmul(query, candidate, transpose_b=True)
    score = tf.cast(score, tf.float32)
    row = tf.cast(batch.requests.request, tf.int32)
    return Scores(score, tf.gather_nd(score, tf.stack([row, batch.slot], axis=1)))
