from math import log2

import ir_measures
import numpy as np
import pytest
from ir_measures import R, nDCG
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import metrics
from tfrs_mmse.metrics import Judgements

ITEMS = [b"%d" % i for i in range(2000)]


def ranked(*rows: list[int], k: int = 1000) -> np.ndarray:
    """[Q, k] result rows: those given, then -1."""
    return np.array([row + [-1] * (k - len(row)) for row in rows], np.int32)


def test_recall_is_the_share_of_relevant_items_among_the_first_k() -> None:
    # Query q clicked 3, 4, 700 and ordered 5; 3 is at rank 1, 5 at rank 11, 4 at rank 101 and 700 is not found.
    judgements = Judgements(
        {b"q": {b"3": 2, b"4": 2, b"700": 2, b"5": 3, b"8": 1}}, ITEMS
    )
    results = [3, *range(1000, 1009), 5, *range(1009, 1098), 4]
    figures = metrics.means(judgements.figures(ranked(results)))
    assert figures["clicked"] == {
        "recall@10": 1 / 4,
        "recall@100": 2 / 4,
        "recall@1000": 3 / 4,
    }
    assert figures["ordered"] == {"recall@10": 0, "recall@100": 1, "recall@1000": 1}


def test_ndcg_takes_the_level_itself_as_gain() -> None:
    # Levels by rank: 1, 0 (not judged), 3; an item of level 2 is not found.
    judgements = Judgements({b"q": {b"1": 1, b"2": 3, b"3": 2}}, ITEMS)
    ndcg = judgements.figures(ranked([1, 77, 2]))["all"]["ndcg@10"]
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert_allclose(ndcg, [(1 / log2(2) + 3 / log2(4)) / ideal], rtol=1e-12)


def test_a_perfect_ranking_has_an_ndcg_of_one_whatever_rows_its_items_have() -> None:
    # Row 0 stands in the longer list's place of nothing, too.
    judgements = Judgements({b"q": {b"0": 2}, b"r": {b"1": 2, b"2": 2, b"0": 1}}, ITEMS)
    figures = judgements.figures(ranked([0], [1, 2, 0]))
    assert_allclose(figures["all"]["ndcg@10"], [1, 1])


def test_ndcg_looks_at_ten_results_and_compares_with_the_ten_best() -> None:
    judgements = Judgements({b"q": {b"%d" % i: 2 for i in range(20)}}, ITEMS)
    ten, eleventh = [*range(10), 500], [*range(500, 510), 0]
    assert_allclose(judgements.figures(ranked(ten))["all"]["ndcg@10"], [1])
    assert_allclose(judgements.figures(ranked(eleventh))["all"]["ndcg@10"], [0])


def test_queries_without_a_relevant_item_are_left_out_of_the_mean() -> None:
    qrels = {b"a": {b"1": 3, b"2": 2}, b"b": {b"3": 2}, b"c": {b"4": 1}}
    judgements = Judgements(qrels, ITEMS)
    figures = judgements.figures(ranked([1, 4], [9, 3], [8]))
    assert judgements.num_queries() == {"clicked": 2, "ordered": 1, "all": 3}
    assert_array_equal(figures["clicked"]["recall@10"], [1 / 2, 1, np.nan])
    assert_array_equal(figures["ordered"]["recall@10"], [1, np.nan, np.nan])
    assert metrics.means(figures)["clicked"]["recall@10"] == (1 / 2 + 1) / 2
    assert metrics.means(figures)["ordered"]["recall@10"] == 1
    assert not np.isnan(figures["all"]["ndcg@10"]).any()


def test_a_segment_without_any_query_has_no_mean() -> None:
    figures = Judgements({b"a": {b"1": 2}}, ITEMS).figures(ranked([1]))
    assert metrics.means(figures)["ordered"] == {
        "recall@10": None,
        "recall@100": None,
        "recall@1000": None,
    }


def test_a_query_without_results_counts_as_nothing_found() -> None:
    figures = Judgements({b"a": {b"0": 3}, b"b": {b"1": 2}}, ITEMS).figures(
        ranked([], [1])
    )
    assert_array_equal(figures["clicked"]["recall@1000"], [0, 1])
    assert_array_equal(figures["all"]["ndcg@10"], [0, 1])


def test_a_relevant_item_outside_the_catalogue_counts_as_not_found() -> None:
    judgements = Judgements(
        {b"a": {b"0": 2, b"gone": 2}, b"b": {b"gone": 3, b"1": 2}}, [b"0", b"1"]
    )
    assert judgements.num_unknown == 1
    assert_array_equal(
        judgements.figures(np.array([[0, 1], [0, 1]], np.int32))["clicked"][
            "recall@10"
        ],
        [1 / 2, 1 / 2],
    )


def test_results_must_be_those_of_the_judged_queries() -> None:
    with pytest.raises(ValueError, match="one row for each of 1 queries, got 2"):
        Judgements({b"a": {b"0": 2}}, ITEMS).figures(ranked([0], [1]))


def random_case(
    num_queries: int, num_items: int = 400
) -> tuple[dict[bytes, dict[bytes, int]], np.ndarray]:
    rng = np.random.default_rng(0)
    qrels = {}
    for q in range(num_queries):
        judged = rng.choice(num_items, size=rng.integers(1, 30), replace=False)
        qrels[b"q%05d" % q] = {ITEMS[i]: int(rng.integers(1, 4)) for i in judged}
    index = np.stack(
        [rng.permutation(num_items)[:200] for _ in range(num_queries)]
    ).astype(np.int32)
    return qrels, index


def test_agrees_with_ir_measures_query_by_query() -> None:
    qrels, index = random_case(60)
    figures = Judgements(qrels, ITEMS).figures(index)
    theirs_qrels = {
        q.decode(): {i.decode(): level for i, level in levels.items()}
        for q, levels in qrels.items()
    }
    run = {
        q: {ITEMS[i].decode(): float(-rank) for rank, i in enumerate(row)}
        for q, row in zip(theirs_qrels, index, strict=True)
    }
    for measure, ours, level in [
        (R(rel=2) @ 10, figures["clicked"]["recall@10"], 2),
        (R(rel=2) @ 100, figures["clicked"]["recall@100"], 2),
        (R(rel=3) @ 10, figures["ordered"]["recall@10"], 3),
        (R(rel=3) @ 1000, figures["ordered"]["recall@1000"], 3),
        (nDCG @ 10, figures["all"]["ndcg@10"], 1),
    ]:
        theirs = {
            m.query_id: m.value
            for m in ir_measures.iter_calc([measure], theirs_qrels, run)
        }
        expected = [
            theirs[q] if max(theirs_qrels[q].values()) >= level else np.nan
            for q in theirs_qrels
        ]
        assert_allclose(ours, expected, rtol=1e-6, err_msg=str(measure))


def test_figures_do_not_depend_on_the_blocks_they_are_computed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qrels, index = random_case(25)
    whole = Judgements(qrels, ITEMS).figures(index)
    monkeypatch.setattr(metrics, "_QUERY_BLOCK", 7)
    blocked = Judgements(qrels, ITEMS).figures(index)
    for segment, figures in whole.items():
        for name, values in figures.items():
            assert_array_equal(blocked[segment][name], values)


def test_renumbered_items_change_no_figure() -> None:
    qrels, index = random_case(25)
    order = np.random.default_rng(1).permutation(len(ITEMS))
    # Item i of ITEMS is at row place[i] of the permuted corpus.
    place = np.argsort(order)
    before = metrics.means(Judgements(qrels, ITEMS).figures(index))
    after = metrics.means(
        Judgements(qrels, [ITEMS[i] for i in order]).figures(
            place[index].astype(np.int32)
        )
    )
    assert after == before


def test_figures_of_some_items_hold_only_those_as_right() -> None:
    qrels = {b"a": {b"0": 3, b"1": 2, b"gone": 2}, b"b": {b"2": 2}}
    judgements = Judgements(qrels, ITEMS)
    some = judgements.of_items({b"1", b"gone"})
    figures = some.figures(ranked([0, 1], [2]), metrics.RECALL)
    assert list(figures) == ["clicked", "ordered"]
    # Of `1` and `gone`, the first is found; nothing of b is left, and nothing ordered.
    assert_array_equal(figures["clicked"]["recall@10"], [1 / 2, np.nan])
    assert_array_equal(figures["ordered"]["recall@10"], [np.nan, np.nan])
    assert metrics.num_known(figures) == {"clicked": 1, "ordered": 0}
    assert judgements.num_queries() == {"clicked": 2, "ordered": 1, "all": 2}


def test_no_item_at_all_leaves_no_figure() -> None:
    nothing = Judgements({b"a": {b"0": 3}}, ITEMS).of_items(set())
    assert metrics.means(nothing.figures(ranked([0])))["all"] == {"ndcg@10": None}


def test_figures_of_some_queries_are_theirs() -> None:
    qrels = {b"a": {b"0": 3}, b"b": {b"1": 2}, b"c": {b"2": 2}}
    figures = Judgements(qrels, ITEMS).figures(ranked([0], [9], [2]))
    some = metrics.of_queries(figures, np.array([False, True, True]))
    assert metrics.means(some)["clicked"]["recall@10"] == (0 + 1) / 2
    assert metrics.num_known(some) == {"clicked": 2, "ordered": 0, "all": 2}


def test_curves_grow_and_pass_through_the_printed_figures() -> None:
    qrels, index = random_case(60)
    judgements = Judgements(qrels, ITEMS)
    curves = metrics.means(judgements.figures(index, metrics.CURVES))
    figures = metrics.means(judgements.figures(index))
    for segment, curve in curves.items():
        values = [curve[f"recall@{k}"] for k in metrics.CUT_OFFS]
        assert values == sorted(values)
        assert figures[segment].items() <= curve.items()
