"""A map of vectors: t-SNE in the plane, for a few thousand of them."""

import numpy as np
import tensorflow as tf

PERPLEXITY = 30.0  # neighbours that a point looks at, in effect
STEPS = 250
_EXAGGERATION, _EXAGGERATED_STEPS = 12.0, 100
_SEARCH_STEPS = 30  # halvings in the search for each point's width


def neighbour_map(vectors: np.ndarray) -> np.ndarray:
    """Places vectors in the plane so that neighbours stay neighbours; far distances mean nothing.

    Exact t-SNE (van der Maaten and Hinton, JMLR 2008) with the usual settings of later implementations: early
    exaggeration by 12 (theirs is 4), a learning rate of n / 12 (Belkina et al., 2019), and a start from the first two
    principal components, which makes the map the same every time. It takes some 12 n^2 float32 values of memory, and
    3 seconds for 2,000 vectors on 2 cores.

    Args:
        vectors: [n, D] float32.

    Returns:
        [n, 2] float32.
    """
    start = _principal_components(vectors)
    if len(vectors) < 4:
        return start  # too few for neighbourhoods
    affinity = joint_affinities(vectors, min(PERPLEXITY, (len(vectors) - 1) / 3))
    return _descend(tf.constant(affinity), tf.constant(start)).numpy()


def joint_affinities(vectors: np.ndarray, perplexity: float) -> np.ndarray:
    """p_ij = (p_i|j + p_j|i) / 2n, with p_j|i a Gaussian around i (their equations 1 and 3).

    Args:
        vectors: [n, D] float32, n >= 2.
        perplexity: 2 to the entropy of each p_.|i, which fixes the Gaussian's width; below n - 1.

    Returns:
        [n, n] float32, symmetric; sums to 1, 0 on the diagonal.
    """
    norms = np.sum(np.square(vectors), axis=1)
    distance = norms[:, None] + norms[None, :] - 2 * vectors @ vectors.T
    np.maximum(distance, 0, out=distance)
    np.fill_diagonal(distance, np.inf)
    # The nearest at distance 0 leaves the p as they are, and no row without a single exp() that is not 0.
    distance -= distance.min(axis=1, keepdims=True)
    np.fill_diagonal(distance, 0)
    low, high = np.zeros(len(vectors)), np.full(len(vectors), np.inf)
    beta = np.ones(len(vectors))
    for _ in range(_SEARCH_STEPS):
        p = np.exp(-distance * beta[:, None])
        np.fill_diagonal(p, 0)
        total = p.sum(axis=1)
        entropy = np.log(total) + beta * np.sum(distance * p, axis=1) / total
        too_wide = entropy > np.log(perplexity)
        low, high = np.where(too_wide, beta, low), np.where(too_wide, high, beta)
        beta = np.where(np.isinf(high), 2 * beta, (low + high) / 2)
    p /= total[:, None]
    return ((p + p.T) / (2 * len(vectors))).astype(np.float32)


@tf.function
def _descend(affinity: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Gradient descent with momentum and a gain for each coordinate, as their implementation has it."""
    n = tf.cast(tf.shape(start)[0], tf.float32)
    place, velocity, gain = start, tf.zeros_like(start), tf.ones_like(start)
    for step in tf.range(STEPS):
        early = step < _EXAGGERATED_STEPS
        norms = tf.reduce_sum(tf.square(place), axis=1)
        distance = norms[:, None] + norms[None, :]
        distance -= 2 * tf.matmul(place, place, transpose_b=True)
        kernel = 1 / (1 + tf.maximum(distance, 0.0))
        exaggerated = tf.where(early, _EXAGGERATION, 1.0) * affinity
        # Their equation 5; the diagonal pulls at nothing, but must not count in the sum.
        pull = (exaggerated - kernel / (tf.reduce_sum(kernel) - n)) * kernel
        pulled = tf.reduce_sum(pull, axis=1, keepdims=True) * place
        gradient = 4 * (pulled - tf.matmul(pull, place))
        turned = tf.sign(gradient) != tf.sign(velocity)
        gain = tf.maximum(tf.where(turned, gain + 0.2, gain * 0.8), 0.01)
        momentum = tf.where(early, 0.5, 0.8)
        velocity = momentum * velocity - (n / _EXAGGERATION) * gain * gradient
        place += velocity
        place -= tf.reduce_mean(place, axis=0)
    return place


def _principal_components(vectors: np.ndarray) -> np.ndarray:
    """[n, 2] float32: the first two, scaled to a standard deviation of 0.01 in the first."""
    centred = vectors - vectors.mean(axis=0)
    # Directions, in ascending order of the variance.
    _, directions = np.linalg.eigh(centred.T @ centred)
    plane = np.zeros((len(vectors), 2), np.float32)
    components = centred @ directions[:, ::-1][:, :2]
    plane[:, : components.shape[1]] = components
    deviation = plane[:, 0].std()
    return (plane / deviation * 0.01 if deviation > 0 else plane).astype(np.float32)
