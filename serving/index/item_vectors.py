"""The items' vectors inside a graph: one variable, which indexes share, and exact scores of chosen rows of it."""

import math

import numpy as np
import tensorflow as tf

# Pads a query's rows when fewer were found than asked for; its score is -inf.
NO_ROW = -1
# Numbers of the embeddings that are gathered at a time.
_GATHERED = 1 << 24


def item_variable(embedding: np.ndarray | tf.Variable) -> tf.Variable:
    """The embeddings as a variable, which several indexes may share; nobody may assign to it.

    Args:
        embedding: [N, D] float32. The variable uses the pages of a memory map as they are; it must have been opened as
            "c" (copy on write), and its data be aligned to 64 bytes, as that of .npy files is. Another array is copied.
    """
    if isinstance(embedding, tf.Variable):
        return embedding
    if isinstance(embedding, np.memmap):
        embedding = tf.experimental.dlpack.from_dlpack(embedding.__dlpack__())
    return tf.Variable(
        embedding, trainable=False, dtype=tf.float32, name="item_embedding"
    )


def inner_products(
    embedding: tf.Variable, query: tf.Tensor, row: tf.Tensor
) -> tf.Tensor:
    """Exact scores of chosen items, in memory that does not grow with the batch.

    Args:
        embedding: [N, D] float32.
        query: [B, D] float32.
        row: [B, n] int32 rows of `embedding`, other ones for each query, or NO_ROW.

    Returns:
        [B, n] float32; -inf where there is no row.
    """
    batch, num = tf.unstack(tf.shape(row))
    # Gathered from directly, a variable would be copied, and then at each read: TensorFlow expects it to be written to.
    vectors = embedding.read_value()
    step = tf.maximum(1, _GATHERED // tf.maximum(num * embedding.shape[1], 1))
    _, score = tf.while_loop(
        lambda start, score: start < batch,
        lambda start, score: (
            start + step,
            tf.concat(
                [
                    score,
                    tf.linalg.matvec(
                        tf.gather(vectors, tf.maximum(row[start : start + step], 0)),
                        query[start : start + step],
                    ),
                ],
                axis=0,
            ),
        ),
        (tf.constant(0), tf.zeros([0, num])),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        parallel_iterations=1,
    )
    return tf.where(row >= 0, score, -math.inf)
