"""Chooses ScaNN's search settings by measuring: the least work that finds enough of the exact result."""

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from serving.agreement import Reference, exact_scores, recall
from serving.index import ScannIndex, ScannSettings


def tune(
    index: ScannIndex, reference: Reference, *, k: int, target_recall: float
) -> float:
    """Sets how much `index` searches, without building it anew.

    Args:
        index: Its settings are replaced.
        reference: Embeddings of queries to measure with, and of the items.
        k: Results per query.
        target_recall: Recall@k against exact search to reach.

    Returns:
        The recall reached; below the target only if even the most thorough settings miss it.
    """
    exact = exact_scores(reference, k)
    reached = 0.0
    for settings in candidates(index.settings, len(reference.item)):
        index.settings = settings
        score = index.search(tf.constant(reference.query), exact.shape[1]).score.numpy()
        reached = recall(score, exact)
        if reached >= target_recall:
            break
    return reached


def candidates(settings: ScannSettings, num_items: int) -> Iterator[ScannSettings]:
    """Settings from little work to much: more of the leaves, up to all of them, then more candidates to reorder."""
    if not settings.num_reorder:
        yield settings
        return
    shares = (50, 30, 20, 14, 10, 7, 5, 3, 2, 1) if settings.num_leaves else (1,)
    for share, factor in [*((share, 1) for share in shares), (1, 2), (1, 4), (1, 8)]:
        yield dataclasses.replace(
            settings,
            leaves_to_search=-(-settings.num_leaves // share),
            num_reorder=min(num_items, factor * settings.num_reorder),
        )
