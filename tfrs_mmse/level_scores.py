"""How a model scores a query's own items, by level: ordered above clicked above unclicked above random ones?

The figures of retrieval say what comes up; these say whether the order of the levels is in the scores at all. Random
items are drawn from the catalogue for each query, without those that the query is judged by.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tfrs_mmse.relevance import Qrels
from tfrs_mmse.schema import Level

NUM_RANDOM = 16  # random items of each query

LevelScores = dict[Level, list[np.ndarray]]
"""For each level, highest first, and each query: float32 scores of its items of the level, none or more."""


class PairAccuracy(NamedTuple):
    """How often an item of the higher level scores above one of the lower level.

    Attributes:
        accuracy: Share of a query's pairs in the right order, ties as half, averaged over queries: 0.5 is chance. None
            if no query has a pair.
        num_queries: Queries that have items of both levels.
    """

    accuracy: float | None
    num_queries: int


def score_levels(
    query_embedding: np.ndarray,
    item_embedding: np.ndarray,
    qrels: Qrels,
    item_ids: Sequence[bytes],
    *,
    seed: int = 0,
) -> LevelScores:
    """Scores the judged and some random items of each query.

    Args:
        query_embedding: [Q, D] float32, in the order of `qrels`.
        item_embedding: [N, D] float32.
        qrels: Levels by query and item; items that the corpus lacks are left out.
        item_ids: [N] ids of the items.
        seed: Of the random items.
    """
    judged = {item_id for levels in qrels.values() for item_id in levels}
    rows = {item_id: row for row, item_id in enumerate(item_ids) if item_id in judged}
    random = np.random.default_rng(seed).integers(
        len(item_ids), size=(len(qrels), NUM_RANDOM)
    )
    scores: LevelScores = {level: [] for level in sorted(Level, reverse=True)}
    for query, drawn, levels in zip(
        query_embedding, random, qrels.values(), strict=True
    ):
        known = {rows[item]: level for item, level in levels.items() if item in rows}
        by_level = {
            level: [row for row, at in known.items() if at == level] for level in scores
        }
        by_level[Level.RANDOM] = [row for row in drawn.tolist() if row not in known]
        for level, members in by_level.items():
            scores[level].append(item_embedding[members] @ query)
    return scores


def pair_accuracies(scores: LevelScores) -> dict[str, PairAccuracy]:
    """For each two levels, by `ordered>clicked` and so on, the accuracy of their pairs."""
    return {
        f"{high.name.lower()}>{low.name.lower()}": pair_accuracy(
            scores[high], scores[low]
        )
        for high, low in combinations(sorted(scores, reverse=True), 2)
    }


def pair_accuracy(
    higher: Sequence[np.ndarray], lower: Sequence[np.ndarray]
) -> PairAccuracy:
    """The accuracy of all pairs within each query, which is the area under the ROC curve of the two levels.

    Args:
        higher: Scores of each query's items of the higher level.
        lower: The same of the lower level.
    """
    shares = [
        (np.sign(above[:, None] - below[None, :]).mean() + 1) / 2
        for above, below in zip(higher, lower, strict=True)
        if len(above) and len(below)
    ]
    return PairAccuracy(
        round(float(np.mean(shares)), 6) if shares else None, len(shares)
    )
