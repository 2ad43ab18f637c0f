"""The benchmark on sizes that take seconds: it measures what it says, and refuses to call unequal results fast."""

import json

import numpy as np
import pytest

from benchmarks import evaluate, machine, top_k
from tfrs_mmse import retrieval
from tfrs_mmse.cli import CommandError

TINY = evaluate.Sizes(
    dimensions=64,
    num_queries=3000,
    num_items=100_000,
    depths=(20,),
    compared_queries=70,
    compared_items=500,
    candidate_batches=(64, 200),
    query_batch=32,
    brute_force_batch=16,
    repeats=2,
)


def test_measures_the_whole_corpus_and_all_ways_side_by_side(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "QUICK", TINY)
    assert evaluate.main(["--quick"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert set(result) == {"ratios", "measurements", "machine"}
    measurements = result["measurements"]

    whole_corpus = measurements["whole_corpus"]
    assert whole_corpus["items"] == 100_000
    assert set(whole_corpus["k=20"]) == {
        "seconds",
        "cpu_seconds",
        "gflops",
        "memory_gb",
    }
    # At least the interpreter; all scores at once would be 3000 * 100,000 * 4 bytes = 1.2 GB.
    assert 0.02 < whole_corpus["k=20"]["memory_gb"] < 0.9

    ours, theirs = (measurements["side_by_side"][name] for name in ("ours", "theirs"))
    tutorial = "Streaming over batches of 64"
    assert list(theirs) == [tutorial, "Streaming over batches of 200", "BruteForce"]
    assert result["ratios"] == {"vs FactorizedTopK": theirs[tutorial]["times_ours"]}
    # Of 70 queries not all find their item first, and not all miss it.
    assert 0 < ours["accuracy"]["1"] < ours["accuracy"]["100"] <= 1
    for row in theirs.values():
        assert row["accuracy"] == pytest.approx(ours["accuracy"], abs=0.015)


def test_ways_that_are_less_than_ten_times_slower_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = {"Streaming over batches of 64": 12.5, "BruteForce": 2.5}
    theirs = {name: {"times_ours": value} for name, value in times.items()}
    monkeypatch.setattr(evaluate, "compare", lambda sizes: {"theirs": theirs})
    monkeypatch.setattr(evaluate, "_in_fresh_process", lambda sizes, k: {})
    result = evaluate.measure(TINY)
    assert result["ratios"] == {"vs FactorizedTopK": 12.5}
    assert result["measurements"]["below 10x"] == ["BruteForce (2.5x)"]


def test_results_that_differ_fail_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = retrieval.top_k

    def wrong(query: np.ndarray, item: np.ndarray, k: int) -> retrieval.SearchResult:
        result = right(query, item, k)
        return retrieval.SearchResult((result.index + 1) % len(item), result.score)

    monkeypatch.setattr(retrieval, "top_k", wrong)
    with pytest.raises(
        CommandError,
        match=r"agree to within one query of 70, got 0\.\d+ from ours and 0\.\d+ from Streaming",
    ):
        evaluate.compare(TINY)


def test_embeddings_have_length_one_and_queries_are_near_their_item() -> None:
    query, item, true_item = top_k.draw_embeddings(2000, 300, 64)
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(item, axis=1), 1, rtol=1e-5)
    own = np.einsum("qd,qd->q", query, item[true_item])
    # 0.25 each with a spread of about 1 / sqrt(64): the mean of 2,000 is within 0.25 +- 4 * 0.125 / sqrt(2000).
    assert own.mean() == pytest.approx(0.25, abs=0.012)


def test_the_machine_is_described() -> None:
    described = machine.describe(["numpy"])
    assert described["libraries"] == {"numpy": np.__version__}
    assert described["cores"] >= 1 and described["memory_gb"] > 0.1
    assert described["cpu"]


def test_peak_memory_stays_when_memory_is_freed() -> None:
    block = np.ones(200_000_000, np.uint8)
    with_block = machine.peak_memory()
    del block
    assert with_block > 200_000_000
    # Linux counts in steps of some pages on each processor.
    assert machine.peak_memory() >= with_block - 10_000_000
