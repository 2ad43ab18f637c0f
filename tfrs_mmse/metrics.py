"""Figures of whole-corpus retrieval, computed by `ranx` for each query; the averages say over which queries they are.

Three segments: `clicked` (items clicked or ordered) and `ordered` by recall@10, 100 and 1000; `all` by NDCG@10, whose
gain is the level itself (1, 2, 3: linear, Järvelin and Kekäläinen). Where people disagree:

- A query without an item of a segment has no figure there (NaN) and is left out of that segment's mean. `trec_eval`
  and `ir_measures` count it as 0, so from our files they give our mean times the share of such queries.
- Fewer than k results: the missing ones are misses; recall still divides by the number of relevant items.
- Tied scores are no matter: the figures go by the rank in the result, which `retrieval` fixes.
- A relevant item that the corpus lacks can not be found, and counts.
"""

from collections.abc import Sequence

import numpy as np
import ranx

from tfrs_mmse.relevance import Qrels
from tfrs_mmse.schema import Level

DEPTH = 1000  # results per query that the figures need

SEGMENTS: dict[str, tuple[Level, tuple[str, ...]]] = {
    "clicked": (Level.CLICKED, ("recall@10", "recall@100", "recall@1000")),
    "ordered": (Level.ORDERED, ("recall@10", "recall@100", "recall@1000")),
    "all": (Level.UNCLICKED, ("ndcg@10",)),
}
"""By name: the lowest level that is relevant, and the figures."""

Figures = dict[str, dict[str, np.ndarray]]
"""By segment and name of the figure: [Q] float64, NaN where the query has no relevant item in the segment."""

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
        self._judged = [
            np.array(
                [
                    (rows.setdefault(item_id, len(rows)), level)
                    for item_id, level in levels.items()
                ],
                np.float64,
            )
            for levels in qrels.values()
        ]
        self.num_unknown = len(rows) - len(item_ids)

    def __len__(self) -> int:
        return len(self._judged)

    def num_queries(self) -> dict[str, int]:
        """For each segment the number of queries with a relevant item, which its means are over."""
        return {
            name: int(self._has_relevant(level).sum())
            for name, (level, _) in SEGMENTS.items()
        }

    def figures(self, index: np.ndarray) -> Figures:
        """Every figure of every query.

        Args:
            index: [Q, k] rows of the results, best first, -1 after the last one.
        """
        if len(index) != len(self):
            raise ValueError(
                f"index must have one row for each of {len(self)} queries, got {len(index)}"
            )
        names = {
            s: [_ranx_name(figure, level) for figure in figures]
            for s, (level, figures) in SEGMENTS.items()
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
            for segment, (level, figures) in SEGMENTS.items()
        }

    def _figures(
        self, index: np.ndarray, first: int, wanted: list[str]
    ) -> dict[str, np.ndarray]:
        rows = slice(first, first + _QUERY_BLOCK)
        judged = self._judged[rows]
        # ranx takes [queries, items, (id, grade or score)], results best first and judgements with the highest grade
        # first. A grade of 0 pads: it is below every relevance level. So does the id -1 of a missing result.
        qrels = np.zeros((len(judged), max(len(j) for j in judged), 2))
        for row, items in zip(qrels, judged, strict=True):
            row[: len(items)] = items[np.argsort(-items[:, 1], kind="stable")]
        run = np.zeros((len(judged), index.shape[1], 2))
        run[:, :, 0] = index[rows]
        return ranx.evaluate(qrels, run, wanted, return_mean=False)

    def _has_relevant(self, level: Level) -> np.ndarray:
        return np.array([(items[:, 1] >= level).any() for items in self._judged], bool)


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
