"""Top-k accuracies of random embeddings: by our top-k, and by every way of TensorFlow Recommenders' metric."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

KS = (1, 5, 10, 50, 100)  # FactorizedTopK's default
_SIGNAL = 0.25  # of a query, the part that is its item's
_BLOCK = 16384  # vectors drawn at once

Accuracies = dict[str, float]
"""How often the true item is among the first k results, by k."""


class Embeddings(NamedTuple):
    """Queries, items, and which item each query is looking for.

    Attributes:
        query: [Q, D] float32 of length 1.
        item: [N, D] float32 of length 1.
        true_item: [Q] int32 rows of `item`.
    """

    query: np.ndarray
    item: np.ndarray
    true_item: np.ndarray


def draw_embeddings(num_queries: int, num_items: int, dimensions: int) -> Embeddings:
    """Draws the same embeddings for the same sizes, without holding anything as large beside them."""
    item = _unit_vectors(num_items, dimensions, seed=0)
    query = _unit_vectors(num_queries, dimensions, seed=1)
    true_item = np.random.default_rng(2).integers(0, num_items, num_queries)
    query *= np.float32((1 - _SIGNAL**2) ** 0.5)
    query += np.float32(_SIGNAL) * item[true_item]
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    return Embeddings(query, item, true_item.astype(np.int32))


def our_accuracies(embeddings: Embeddings) -> Accuracies:
    """How often the true item is among the first k results, by k."""
    from tfrs_mmse import retrieval

    result = retrieval.top_k(embeddings.query, embeddings.item, max(KS))
    hits = result.index == embeddings.true_item[:, None]
    return {str(k): round(float(hits[:, :k].any(axis=1).mean()), 6) for k in KS}


def factorized_top_k(
    embeddings: Embeddings,
    candidate_batches: Sequence[int],
    *,
    query_batch: int,
    brute_force_batch: int,
) -> dict[str, Callable[[], Accuracies]]:
    """By name: every way of computing the same with `FactorizedTopK`, traced and with its caches full.

    Args:
        embeddings: What both compute with.
        candidate_batches: Candidates that `Streaming` sees at once; each is a way.
        query_batch: Queries that the metric is updated with at once.
        brute_force_batch: The same for `BruteForce`, which holds the scores of all items for so many queries.
    """
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    items = tf.constant(embeddings.item)
    ways = {}
    for batch in candidate_batches:
        candidates = tf.data.Dataset.from_tensor_slices(items).batch(batch).cache()
        metric = tfrs.metrics.FactorizedTopK(candidates, ks=KS)
        ways[streaming(batch)] = _evaluation(metric, embeddings, query_batch)
    brute_force = tfrs.layers.factorized_top_k.BruteForce(k=max(KS)).index(items)
    metric = tfrs.metrics.FactorizedTopK(brute_force, ks=KS)
    ways["BruteForce"] = _evaluation(metric, embeddings, brute_force_batch)
    return ways


def streaming(candidate_batch: int) -> str:
    """The name of one way."""
    return f"Streaming over batches of {candidate_batch}"


def _evaluation(
    metric: Any, embeddings: Embeddings, query_batch: int
) -> Callable[[], Accuracies]:
    import tensorflow as tf

    queries = tf.data.Dataset.from_tensor_slices(
        (
            embeddings.query,
            embeddings.item[embeddings.true_item],
            embeddings.true_item,
        )
    ).batch(query_batch)

    @tf.function(input_signature=queries.element_spec, autograph=False)
    def update(query: tf.Tensor, true_item: tf.Tensor, true_id: tf.Tensor) -> None:
        metric.update_state(query, true_item, true_candidate_ids=true_id)

    batches = list(queries)
    update(*(part[:1] for part in batches[0]))  # traces, and fills candidates' caches

    def evaluate() -> Accuracies:
        metric.reset_states()
        for batch in batches:
            update(*batch)
        return {
            str(k): round(float(value), 6)
            for k, value in zip(KS, metric.result(), strict=True)
        }

    return evaluate


def _unit_vectors(num: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = np.empty((num, dimensions), np.float32)
    for first in range(0, num, _BLOCK):
        block = vectors[first : first + _BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors
