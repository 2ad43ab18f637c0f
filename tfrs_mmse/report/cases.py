"""The queries that the model answers best and worst, with what it found beside what BM25 found."""

from collections.abc import Sequence

import numpy as np

from tfrs_mmse import metrics
from tfrs_mmse.evaluation import BM25, Evaluation
from tfrs_mmse.page import Node, Section, element, foreign, number, paragraph
from tfrs_mmse.schema import Level

NUM_CASES = 20
NUM_RESULTS = 10
NUM_MISSED = 5  # missed items that are named


def sections(evaluation: Evaluation) -> list[Section]:
    """Best and worst queries, by NDCG@10: the difference to BM25's if BM25 is there."""
    ndcg = {name: f["all"]["ndcg@10"] for name, f in evaluation.figures.items()}
    recall = {
        name: f["clicked"]["recall@100"] for name, f in evaluation.figures.items()
    }
    model = evaluation.trained.config.preset
    gain, tie_break = ndcg[model], recall[model]
    by = "NDCG@10 of the model"
    if BM25 in ndcg:
        gain, tie_break = gain - ndcg[BM25], tie_break - recall[BM25]
        by = "NDCG@10 of the model minus that of BM25"
    best, worst = best_and_worst(gain, tie_break)
    shown = _Shown(evaluation)
    note = f"By {by}, then by the same of the recall@100 of clicked or ordered items. {len(gain)} queries."
    return [
        Section(
            anchor,
            title,
            [paragraph(note), *(shown.case(q, unfolded=q == rows[0]) for q in rows)],
        )
        for anchor, title, rows in (
            ("best", f"The {len(best)} best queries", best),
            ("worst", f"The {len(worst)} worst queries", worst),
        )
    ]


def best_and_worst(
    gain: np.ndarray, tie_break: np.ndarray, num: int = NUM_CASES
) -> tuple[list[int], list[int]]:
    """The queries at either end, best first and worst first; no query is in both.

    Args:
        gain: [Q], higher is better.
        tie_break: [Q], decides where the gain is equal; NaN is 0. Then the first query is the better one.
        num: How many of each.
    """
    order = np.lexsort((np.arange(len(gain)), -np.nan_to_num(tie_break), -gain))
    num_best, num_worst = min(num, (len(gain) + 1) // 2), min(num, len(gain) // 2)
    return order[:num_best].tolist(), order[::-1][:num_worst].tolist()


class _Shown:
    """Looks up what stands in a case."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._queries = list(evaluation.qrels)
        items = evaluation.items
        judged = {i for levels in evaluation.qrels.values() for i in levels}
        self._rows = {
            item_id: row
            for row, item_id in enumerate(items.item_id.tolist())
            if item_id in judged
        }

    def case(self, q: int, *, unfolded: bool) -> Node:
        """One query, folded up to a line or not."""
        query, levels = self._queries[q], self._levels(q)
        num_relevant = sum(level >= Level.CLICKED for level in levels.values())
        ndcg = ", ".join(
            f"{_label(name)} {number(figures['all']['ndcg@10'][q])}"
            for name, figures in self._evaluation.figures.items()
        )
        columns = [
            element(
                "div",
                element("h4", _label(name)),
                self._results(result.index[q], levels),
                self._missed(q, result.index[q], levels),
            )
            for name, result in self._evaluation.found.items()
        ]
        return element(
            "details",
            element(
                "summary",
                element("span", foreign(query), class_="query"),
                element(
                    "span",
                    f" NDCG@10 {ndcg}; {num_relevant} clicked or ordered",
                    class_="note",
                ),
            ),
            element("div", *columns, class_="sides"),
            **({"open": "open"} if unfolded else {}),
        )

    def _levels(self, q: int) -> dict[int, int]:
        """Levels of the query's items by their rows in the catalogue."""
        judged = self._evaluation.qrels[self._queries[q]]
        return {self._rows[i]: level for i, level in judged.items() if i in self._rows}

    def _results(self, index: np.ndarray, levels: dict[int, int]) -> Node:
        rows = [row for row in index[:NUM_RESULTS].tolist() if row >= 0]
        if not rows:
            return paragraph("Nothing found.")
        return element(
            "ol", *(self._item(r, levels.get(r)) for r in rows), class_="results"
        )

    def _item(self, row: int, level: int | None, *more: Node) -> Node:
        title = foreign(self._evaluation.items.title[row])
        if level is None:
            return element("li", title, *more, class_="unjudged")
        name = Level(level).name.lower()
        return element(
            "li", element("span", name, class_=f"level {name}"), title, *more
        )

    def _missed(self, q: int, index: np.ndarray, levels: dict[int, int]) -> Node:
        """The clicked and ordered items below the results that are shown, highest level first, with their ranks."""
        ranks = {row: rank for rank, row in enumerate(index.tolist(), start=1)}
        missed = sorted(
            (-level, ranks.get(row, metrics.DEPTH + 1), row)
            for row, level in levels.items()
            if level >= Level.CLICKED and ranks.get(row, NUM_RESULTS + 1) > NUM_RESULTS
        )
        gone = len(self._evaluation.qrels[self._queries[q]]) - len(levels)
        if not missed and not gone:
            return None
        entries = [
            self._item(row, -level, element("span", f" {_place(rank)}", class_="note"))
            for level, rank, row in missed[:NUM_MISSED]
        ]
        more = len(missed) - len(entries)
        return element(
            "div",
            element("h4", f"Missed in the first {NUM_RESULTS}"),
            element("ul", *entries, class_="results") if entries else None,
            _note(f"and {more} more" if more else "", _gone(gone)),
        )


def _label(system: str) -> str:
    return "BM25" if system == BM25 else system


def _place(rank: int) -> str:
    return f"not in {metrics.DEPTH}" if rank > metrics.DEPTH else f"rank {rank}"


def _gone(num: int) -> str:
    return f"{num} judged items are no longer in the catalogue" if num else ""


def _note(*parts: str) -> Node:
    said: Sequence[str] = [part for part in parts if part]
    return element("span", "; ".join(said), class_="small") if said else None
