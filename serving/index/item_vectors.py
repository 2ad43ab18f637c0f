"""The items' vectors inside a graph: one variable, which indexes share."""

import numpy as np
import tensorflow as tf


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
