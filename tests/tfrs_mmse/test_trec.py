from pathlib import Path
from typing import Any
from urllib.parse import unquote

import ir_measures
import numpy as np
import pytest
from ir_measures import R, nDCG
from numpy.testing import assert_array_equal

from tfrs_mmse import metrics, trec
from tfrs_mmse.metrics import Judgements
from tfrs_mmse.retrieval import SearchResult

EMPTY = "e3b0c44298fc1c14"  # SHA-256 of nothing starts so


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def test_writes_ranks_from_one_and_scores_that_fall(tmp_path: Path) -> None:
    result = SearchResult(
        np.array([[2, 0, -1]], np.int32), floats([[0.5, 0.25, -np.inf]])
    )
    trec.write_run(tmp_path / "run", [b""], [b"a", b"b", b"c"], result, tag="mmse")
    assert (
        tmp_path / "run"
    ).read_text() == f"{EMPTY} Q0 c 1 0.5 mmse\n{EMPTY} Q0 a 2 0.25 mmse\n"


def test_writes_levels_as_grades(tmp_path: Path) -> None:
    trec.write_qrels(tmp_path / "qrels", {b"": {b"a": 3, b"b": 1}})
    assert (tmp_path / "qrels").read_text() == f"{EMPTY} 0 a 3\n{EMPTY} 0 b 1\n"


def test_writes_each_query_on_one_line(tmp_path: Path) -> None:
    trec.write_queries(tmp_path / "queries", [b"", "maçã\tverde\n2".encode()])
    lines = (tmp_path / "queries").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"{EMPTY}\t"
    assert lines[1].split("\t")[1] == "maçã verde 2"


def test_a_query_id_depends_on_the_query_alone() -> None:
    assert trec.query_id(b"") == EMPTY
    assert trec.query_id(b"nut") != trec.query_id(b"nuts")


@pytest.mark.parametrize(
    "item_id", ["a b", "a%20b", "a\tb", "a\u00a0b", "a\u2028b", "5%", "maçã", "x/y#z"]
)
def test_item_names_hold_no_white_space_and_can_be_taken_back(item_id: str) -> None:
    name = trec.item_name(item_id.encode())
    assert name.split() == [name] and name.splitlines() == [name]
    assert unquote(name) == item_id


def test_item_ids_with_and_without_encoded_space_stay_apart() -> None:
    assert trec.item_name(b"a b") == "a%20b"
    assert trec.item_name(b"a%20b") == "a%2520b"


def test_tied_scores_fall_by_the_smallest_step_and_others_stay() -> None:
    scores = floats([[3, 2, 2, 2, 1, 0, -0.0, -1]])
    step = np.float32(2**-23)  # between neighbouring float32 values from 1 to 2
    tiny = np.float32(2.0**-149)
    assert_array_equal(
        trec.strictly_decreasing(scores),
        [[3, 2, 2 - step, 2 - 2 * step, 1, 0, -tiny, -1]],
    )


def test_a_run_of_ties_pushes_close_neighbours_down() -> None:
    below = np.nextafter(np.float32(1), np.float32(0))
    assert (
        np.diff(trec.strictly_decreasing(floats([[1, 1, 1, below, below]]))) < 0
    ).all()


def test_printed_scores_fall_in_single_and_double_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = -np.sort(
        -np.round(rng.normal(size=(20, 300)), 2).astype(np.float32), axis=1
    )
    index = np.tile(np.arange(300, dtype=np.int32), (20, 1))
    queries = [b"q%d" % i for i in range(20)]
    trec.write_run(
        tmp_path / "run",
        queries,
        [b"%d" % i for i in range(300)],
        SearchResult(index, scores),
        tag="t",
    )
    printed = [line.split()[4] for line in (tmp_path / "run").read_text().splitlines()]
    for dtype in (np.float32, np.float64):
        assert (np.diff(np.array(printed, dtype).reshape(20, 300)) < 0).all()


# Hardly any ties, many, hardly anything else.
@pytest.mark.parametrize("decimals", [7, 1, 0])
def test_ir_measures_reads_the_files_and_agrees(tmp_path: Path, decimals: int) -> None:
    rng = np.random.default_rng(0)
    items = [b"item %d" % i for i in range(1500)]
    qrels = {
        b"q%d" % q: {
            items[i]: int(rng.integers(1, 4))
            for i in rng.choice(1500, size=rng.integers(1, 12))
        }
        for q in range(40)
    }
    scores = np.round(rng.normal(size=(40, 1500)), decimals).astype(np.float32)
    index = np.argsort(-scores, axis=1, kind="stable")[:, :1000].astype(np.int32)
    result = SearchResult(index, np.take_along_axis(scores, index, axis=1))
    trec.write_run(tmp_path / "run", list(qrels), items, result, tag="random")
    trec.write_qrels(tmp_path / "qrels", qrels)

    judgements = Judgements(qrels, items)
    ours, count = metrics.means(judgements.figures(index)), judgements.num_queries()
    theirs = ir_measures.calc_aggregate(
        [R(rel=2) @ 10, R(rel=2) @ 100, R(rel=2) @ 1000, R(rel=3) @ 100, nDCG @ 10],
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "run"))),
    )
    # ir_measures counts a query without a relevant item as 0, we leave it out. Ours are rounded to six digits.
    clicked, ordered = 40 / count["clicked"], 40 / count["ordered"]
    for depth in (10, 100, 1000):
        assert ours["clicked"][f"recall@{depth}"] == pytest.approx(
            theirs[R(rel=2) @ depth] * clicked, abs=1e-6
        )
    assert ours["ordered"]["recall@100"] == pytest.approx(
        theirs[R(rel=3) @ 100] * ordered, abs=1e-6
    )
    assert ours["all"]["ndcg@10"] == pytest.approx(theirs[nDCG @ 10], abs=1e-6)
    assert count["ordered"] < 40
