"""Figures of whole-corpus retrieval, computed by `ranx` for each query; the averages say over which queries they are.

Three segments: `clicked` (items clicked or ordered) and `ordered` by recall@10, 100 and 1000; `all` by NDCG@10, whose
gain is the level itself (1, 2, 3: linear, Järvelin and Kekäläinen). Where people disagree:

- A query without an item of a segment has no figure there (NaN) and is left out of that segment's mean. `trec_eval`
  and `ir_measures` count it as 0, so from our files they give our mean times the share of such queries.
- Fewer than k results: the missing ones are misses; recall still divides by the number of relevant items.
- Tied scores are no matter: the figures go by the rank in the result, which `retrieval` fixes.
- A relevant item that the corpus lacks can not be found, and counts.
"""

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Self

import numpy as np
import ranx

from tfrs_mmse.relevance import Qrels
from tfrs_mmse.schema import Level

DEPTH = 1000  # results per query that the figures need

Segments = Mapping[str, tuple[Level, tuple[str, ...]]]
"""By name of the segment: the lowest level that is relevant, and the figures."""

SEGMENTS: Segments = {
    "clicked": (Level.CLICKED, ("recall@10", "recall@100", "recall@1000")),
    "ordered": (Level.ORDERED, ("recall@10", "recall@100", "recall@1000")),
    "all": (Level.UNCLICKED, ("ndcg@10",)),
}
"""What is printed."""

RECALL: Segments = {name: SEGMENTS[name] for name in ("clicked", "ordered")}
"""What can be said of some of the items alone: NDCG would hold the right ones among the others against a result."""

CUT_OFFS = (1, 2, 5, 10, 20, 50, 100, 200, 500, DEPTH)
CURVES: Segments = {
    name: (level, tuple(f"recall@{k}" for k in CUT_OFFS))
    for name, (level, _) in RECALL.items()
}
"""Recall as it grows with the number of results."""

Figures = dict[str, dict[str, np.ndarray]]
"""By segment and name of the figure: [Q] float64, NaN where the query has no relevant item in the segment."""

_NO_ITEM = -2
_QUERY_BLOCK = 1024  # queries handed to ranx at once, as arrays as wide as the longest list among them


class Judgements:
    """The levels of a split, with items named by their rows in the corpus."""

    def __init__(self, qrels: Qrels, item_ids: Sequence[bytes]) -> None:
        """Looks the judged items up.

        Args:
            qrels: Levels by query and item; the queries' order is the order of all figures.
            item_ids: The id of each item of the corpus.
        """
        rows = {item_id: row for row, item_id in enumerate(item_ids)}
        # Items that the corpus lacks get rows beyond it, which no result can hold.
        self._rows = {
            item_id: rows.setdefault(item_id, len(rows))
            for levels in qrels.values()
            for item_id in levels
        }
        self.num_unknown = len(rows) - len(item_ids)
        self._judge(qrels)

    def _judge(self, qrels: Qrels) -> None:
        self._qrels = qrels
        self._judged = [
            np.array(
                [(self._rows[item_id], level) for item_id, level in levels.items()],
                np.float64,
            ).reshape(-1, 2)
            for levels in qrels.values()
        ]

    def __len__(self) -> int:
        return len(self._judged)

    def of_items(self, item_ids: Container[bytes]) -> Self:
        """The same queries in the same order, with these items alone as right or wrong."""
        restricted = copy.copy(self)
        restricted._judge(
            {
                query: {
                    item_id: level
                    for item_id, level in levels.items()
                    if item_id in item_ids
                }
                for query, levels in self._qrels.items()
            }
        )
        return restricted

    def num_queries(self) -> dict[str, int]:
        """For each segment the number of queries with a relevant item, which its means are over."""
        return {
            name: int(self._has_relevant(level).sum())
            for name, (level, _) in SEGMENTS.items()
        }

    def figures(self, index: np.ndarray, segments: Segments = SEGMENTS) -> Figures:
        """Every figure of every query.

        Args:
            index: [Q, k] rows of the results, best first, -1 after the last one.
            segments: Which figures.
        """
        if len(index) != len(self):
            raise ValueError(
                f"index must have one row for each of {len(self)} queries, got {len(index)}"
            )
        names = {
            s: [_ranx_name(figure, level) for figure in figures]
            for s, (level, figures) in segments.items()
        }
        wanted = sorted({name for segment in names.values() for name in segment})
        blocks = [
            self._figures(index, first, wanted)
            for first in range(0, len(index), _QUERY_BLOCK)
        ]
        values = {
            name: np.concatenate([block[name] for block in blocks]) for name in wanted
        }
        return {
            segment: {
                figure: np.where(self._has_relevant(level), values[name], np.nan)
                for figure, name in zip(figures, names[segment], strict=True)
            }
            for segment, (level, figures) in segments.items()
        }

    def _figures(
        self, index: np.ndarray, first: int, wanted: list[str]
    ) -> dict[str, np.ndarray]:
        rows = slice(first, first + _QUERY_BLOCK)
        judged = self._judged[rows]
        # ranx takes [queries, items, (id, grade or score)], results best first and judgements with the highest grade
        # first. A grade of 0 pads, of an item that no result holds: -1 is a missing result, and 0 is a row like any
        # other, which would have two grades then.
        qrels = np.zeros((len(judged), max(len(j) for j in judged), 2))
        qrels[:, :, 0] = _NO_ITEM
        for row, items in zip(qrels, judged, strict=True):
            row[: len(items)] = items[np.argsort(-items[:, 1], kind="stable")]
        run = np.zeros((len(judged), index.shape[1], 2))
        run[:, :, 0] = index[rows]
        return ranx.evaluate(qrels, run, wanted, return_mean=False)

    def _has_relevant(self, level: Level) -> np.ndarray:
        return np.array([(items[:, 1] >= level).any() for items in self._judged], bool)


def of_queries(figures: Figures, mask: np.ndarray) -> Figures:
    """The figures of some of the queries.

    Args:
        figures: Figures of Q queries.
        mask: [Q] bool.
    """
    return {
        s: {name: values[mask] for name, values in segment.items()}
        for s, segment in figures.items()
    }


def num_known(figures: Figures) -> dict[str, int]:
    """For each segment the number of queries that have its figures."""
    return {
        s: int((~np.isnan(next(iter(segment.values())))).sum())
        for s, segment in figures.items()
    }


def means(figures: Figures) -> dict[str, dict[str, float | None]]:
    """Each figure's mean over the queries that have it, to six digits; None where no query has."""
    return {
        s: {name: _mean(values) for name, values in segment.items()}
        for s, segment in figures.items()
    }


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _ranx_name(figure: str, level: Level) -> str:
    return f"{figure}-l{int(level)}"
