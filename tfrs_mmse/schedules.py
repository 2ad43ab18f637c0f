"""From easy to hard: weights that rise during training. Pure functions."""

import tensorflow as tf


def linear_rise(
    final: float, *, share: float, step: tf.Tensor, num_steps: int
) -> tf.Tensor:
    """A weight that rises linearly from 0 to `final` during the first part of the training, and stays there.

    Hard negatives from the start are known to hurt; Etsy (arXiv 2306.04833) and Facebook's Que2Search (KDD 2021) both
    begin with easy ones.

    Args:
        final: The weight after the rise.
        share: Share of the training that the rise takes; 0 for none.
        step: Scalar int64, steps done so far.
        num_steps: Steps of the whole training.

    Returns:
        Scalar float32.
    """
    rise_steps = share * num_steps
    if rise_steps == 0:
        return tf.constant(final, tf.float32)
    return final * tf.minimum(tf.cast(step, tf.float32) / rise_steps, 1.0)
