"""The scores of one step: every query against every candidate, once, for both objectives."""

from collections.abc import Callable
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
    return Scores(*_with_entries(score, tf.stack([row, batch.slot], axis=1)))


@tf.custom_gradient
def _with_entries(
    matrix: tf.Tensor, place: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tuple[tf.Tensor, None]]]:
    """The matrix, and its entries at [N, 2] places.

    TensorFlow's gradient of the entries would be a second matrix, of zeros but for N of them, to be added to the first.
    """

    def gradient(of_matrix: tf.Tensor, of_entries: tf.Tensor) -> tuple[tf.Tensor, None]:
        of_entries = tf.convert_to_tensor(of_entries)  # from sparse slices
        return tf.tensor_scatter_nd_add(of_matrix, place, of_entries), None

    return (tf.identity(matrix), tf.gather_nd(matrix, place)), gradient
