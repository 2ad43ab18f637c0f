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
    query_embedding: tf.Tensor, candidate_embedding: tf.Tensor, batch: Batch
) -> Scores:
    """Scores a batch.

    Args:
        query_embedding: [B, D].
        candidate_embedding: [C, D].
        batch: What the embeddings are of.
    """
    score = tf.linalg.matmul(query_embedding, candidate_embedding, transpose_b=True)
    row = tf.cast(batch.requests.request, tf.int32)
    return Scores(score, tf.gather_nd(score, tf.stack([row, batch.slot], axis=1)))
