"""Exact search: every item is scored."""

import numpy as np
import tensorflow as tf

from serving.index.found import Found
from serving.index.item_vectors import item_variable

# Rows scored at a time, so that memory does not grow with batch x catalogue.
_BLOCK = 1 << 17


class ExactIndex(tf.Module):
    """Scores every item. It is the reference, and runs wherever TensorFlow runs.

    Ties go to the lower row. Time grows with the number of items, memory with batch x min(items, one block).
    """

    scores_all = True

    def __init__(
        self, embedding: np.ndarray | tf.Variable, *, block: int = _BLOCK
    ) -> None:
        """Keeps the embeddings in a variable, which no 2 GB limit of a graph binds.

        Args:
            embedding: [N, D] float32, N > 0.
            block: Rows scored at a time.
        """
        super().__init__()
        self.embedding = item_variable(embedding)
        self._num_items, self._block = self.embedding.shape[0], block

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        num = tf.minimum(num, self._num_items)
        if self._num_items <= self._block:
            score, row = tf.math.top_k(
                tf.linalg.matmul(query, self.embedding, transpose_b=True), num
            )
            return Found(row, score)
        nothing = tf.zeros([tf.shape(query)[0], 0])
        _, row, score = tf.while_loop(
            lambda start, row, score: start < self._num_items,
            lambda start, row, score: (
                start + self._block,
                *self._merge(query, num, start, Found(row, score)),
            ),
            (tf.constant(0), tf.cast(nothing, tf.int32), nothing),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, None]),
                tf.TensorShape([None, None]),
            ),
            parallel_iterations=1,
        )
        return Found(row, score)

    def release(self) -> None:
        """Nothing to do: the variable goes with the SavedModel."""

    def _merge(
        self, query: tf.Tensor, num: tf.Tensor, start: tf.Tensor, best: Found
    ) -> Found:
        block = self.embedding[start : start + self._block]
        score, row = tf.math.top_k(
            tf.linalg.matmul(query, block, transpose_b=True),
            tf.minimum(num, tf.shape(block)[0]),
        )
        # Lower rows stand first, so that top_k gives them the ties.
        rows = tf.concat([best.row, row + start], axis=1)
        score, place = tf.math.top_k(
            tf.concat([best.score, score], axis=1), tf.minimum(num, tf.shape(rows)[1])
        )
        return Found(tf.gather(rows, place, batch_dims=1), score)
