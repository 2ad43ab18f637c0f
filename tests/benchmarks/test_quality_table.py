"""The quality table's figures: golden significance, utilities, rows and Markdown."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

from benchmarks.quality import markdown, pairwise, rows, utility
from tfrs_mmse import trec

NAN = float("nan")


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less_and_never_falls() -> (
    None
):
    # Sorted: 0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.025 * 2 = 0.05, but not below 0.06; 0.9 * 1.
    assert_allclose(pairwise.holm([0.025, 0.01, 0.9, 0.02]), [0.06, 0.04, 0.9, 0.06])
    assert_allclose(pairwise.holm([0.5, 0.6]), [1.0, 1.0])
    assert pairwise.holm([]) == []


def test_a_system_is_better_where_the_paired_difference_is_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    query = rng.normal(size=200)  # what makes a query hard is the same for all systems
    low, high = query, query + 0.1 + rng.normal(scale=0.2, size=200)
    same = query + rng.normal(scale=0.2, size=200) * np.tile([1, -1], 100)
    better = pairwise.better_than({"low": low, "high": high, "copy": low, "same": same})
    assert better == {
        "low": [],
        "high": ["low", "copy", "same"],
        "copy": [],
        "same": [],
    }


def test_more_systems_make_the_same_difference_less_significant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=100), rng.normal(size=100)
    b += a.mean() - b.mean() + 0.35
    others = {f"system {i}": rng.normal(size=100) + 0.1 for i in range(10)}
    assert pairwise.better_than({"a": a, "b": b}) == {"a": [], "b": ["a"]}
    assert "a" not in pairwise.better_than({"a": a, "b": b, **others})["b"]


def test_parts_are_compared_with_the_whole_alone_and_corrected_among_themselves() -> (
    None
):
    names = [
        "bm25",
        "mmse",
        "mmse_without_word",
        "mmse_without_log_q",
        "mmse_with_hinge",
    ]
    assert pairwise.questions(names) == [
        [("bm25", "mmse")],
        [("mmse", "mmse_without_word"), ("mmse", "mmse_without_log_q")],
        [("mmse", "mmse_with_hinge")],
    ]
    assert pairwise.questions(["bm25", "mmse_without_word"]) == [[]]
    # The many other systems of the test above do not weaken what is said about a part.
    rng = np.random.default_rng(0)
    part, mmse = rng.normal(size=100), rng.normal(size=100)
    mmse += part.mean() - mmse.mean() + 0.35
    others = {f"system {i}": rng.normal(size=100) + 0.1 for i in range(10)}
    figures = {"mmse": mmse, "mmse_without_word": part, **others}
    better = pairwise.better_than(figures)
    assert "mmse_without_word" in better["mmse"]
    assert not any("mmse_without_word" in better[name] for name in others)


def test_queries_without_the_figure_do_not_count() -> None:
    good, bad = np.linspace(0.5, 0.9, 30), np.linspace(0.1, 0.6, 30)
    assert pairwise.better_than(
        {"good": np.append(good, NAN), "bad": np.append(bad, NAN)}
    ) == {"good": ["bad"], "bad": []}
    assert pairwise.better_than(
        {"one": np.array([1.0, NAN]), "query": np.array([0.0, NAN])}
    ) == {"one": [], "query": []}


def test_utility_ndcg_divides_the_discounted_utilities_by_those_of_the_best_order() -> (
    None
):
    gains = [{"a": 0.04, "b": 0.02, "c": 1e-9}, {"a": 0.3}, {"a": 0.3}, {}]
    ranked = [["x", "b", "a"], ["a"], ["y", "z"], ["a"]]
    # b at rank 2 and a at rank 3; best: a at rank 1, b at rank 2, c at rank 3.
    found = 0.02 / np.log2(3) + 0.04 / np.log2(4)
    best = 0.04 / np.log2(2) + 0.02 / np.log2(3) + 1e-9 / np.log2(4)
    assert_allclose(
        utility.utility_ndcg(gains, ranked), [found / best, 1.0, 0.0, NAN], rtol=1e-12
    )


def test_utility_ndcg_sees_ten_results_only() -> None:
    many = {f"i{i:02d}": 1.0 / (i + 1) for i in range(30)}
    best = sorted(many, key=lambda name: -many[name])
    eleventh = ["none"] * 10 + best
    assert_allclose(
        utility.utility_ndcg([many, many], [best, eleventh]), [1.0, 0.0], rtol=1e-12
    )


def write_truth(path: Path, utilities: list[tuple[str, str, float]]) -> None:
    query, item_id, order = zip(*utilities, strict=True)
    columns = {"query": query, "item_id": item_id, "order_utility": order}
    pq.write_table(pa.table(columns), path)


def test_utilities_belong_to_the_folded_query_and_strings_that_fold_alike_share_them(
    tmp_path: Path,
) -> None:
    write_truth(
        tmp_path / "truth.parquet",
        [
            ("Café", "a b", 0.4),
            ("Café", "c", 0.2),
            ("cafe", "a b", 0.2),
            ("tea", "c", 0.1),
        ],
    )
    gains = utility.read_gains(tmp_path / "truth.parquet")
    assert gains.keys() == {b"cafe", b"tea"}
    assert gains[b"cafe"] == pytest.approx({"a%20b": 0.3, "c": 0.1})


def test_the_figure_of_a_run_file_goes_by_its_ranks(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.parquet", [("tea", "a", 0.2), ("tea", "b", 0.1)])
    query = trec.query_id(b"tea")
    (tmp_path / "test.run").write_text(
        f"{query} Q0 b 1 0.9 mmse\n{query} Q0 a 2 0.8 mmse\n"
        + "".join(f"{query} Q0 x{r} {r} {1 / r} mmse\n" for r in range(3, 20))
    )
    gains = utility.read_gains(tmp_path / "truth.parquet")
    values = utility.figures_of_run(gains, [b"tea", b"x"], tmp_path / "test.run")
    expected = (0.1 + 0.2 / np.log2(3)) / (0.2 + 0.1 / np.log2(3))
    assert_allclose(values, [expected, NAN], rtol=1e-12)


def recall_at_10(recall: list[float]) -> dict[str, dict[str, np.ndarray]]:
    return {"clicked": {"recall@10": np.array(recall)}}


def test_rows_hold_mean_and_spread_of_the_seeds_over_the_queries_with_the_figure() -> (
    None
):
    # mmse: means 0.5 and 0.7 over four queries; sample standard deviation sqrt(2 * 0.1**2 / 1).
    table = rows.rows_of(
        "elo7",
        "query",
        {
            "bm25": dict.fromkeys([0, 1], recall_at_10([0.1, 0.3, 0.2, 0.2, NAN])),
            "mmse": {
                0: recall_at_10([0.4, 0.6, 0.5, 0.5, NAN]),
                1: recall_at_10([0.6, 0.8, 0.8, 0.6, NAN]),
            },
            "two_tower": {3: recall_at_10([0.2, 0.2, 0.2, 0.2, NAN])},
        },
    )
    same = {"data": "elo7", "split": "query", "level": "clicked", "metric": "recall@10"}
    assert table == [
        {**same, "system": "bm25", "mean": 0.2, "std": 0.0, "seeds": [0, 1], "better_than": []},
        {**same, "system": "mmse", "mean": 0.6, "std": 0.141421, "seeds": [0, 1], "better_than": ["bm25", "two_tower"]},
        {**same, "system": "two_tower", "mean": 0.2, "std": None, "seeds": [3], "better_than": []},
    ]  # fmt: skip


def test_systems_are_compared_by_the_mean_of_their_seeds() -> None:
    low, high = [0.1, 0.2, 0.15, 0.25], [0.8, 0.9, 0.95, 0.85]
    table = rows.rows_of(
        "elo7",
        "query",
        {
            "two_tower": {0: recall_at_10([0.5, 0.6, 0.5, 0.6])},
            "mmse": {0: recall_at_10(high), 1: recall_at_10(low)},
        },
    )
    assert [r["better_than"] for r in table] == [[], []]


def test_a_figure_that_no_query_has_gives_no_row() -> None:
    assert rows.rows_of("elo7", "query", {"mmse": {0: recall_at_10([NAN, NAN])}}) == []


def row(system: str, mean: float, std: float | None = 0.01, **other: Any) -> rows.Row:
    values = {
        "data": "elo7",
        "split": "query",
        "system": system,
        "level": "clicked",
        "metric": "recall@10",
        "mean": mean,
        "std": std,
        "seeds": [0, 1],
        "better_than": [],
    }
    return rows.Row(**{**values, **other})  # type: ignore[typeddict-item]


FACTS = markdown.Facts(
    num_queries=1302,
    num_items=29_778,
    source="python convert.py",
    bm25={"k1": 0.4, "b": 0.75},
    train_seconds={"mmse": 61.4},
    settings={"mmse": [], "two_tower": ["epochs=1"]},
    machines=["a processor, 2 cores"],
)


def test_the_table_marks_what_is_best_and_names_the_systems_that_are_beaten() -> None:
    table = markdown.render(
        [
            row("bm25", 0.5, 0.0),
            row("mmse", 0.6, better_than=["bm25", "two_tower"]),
            row("two_tower", 0.45, None),
        ],
        {"elo7 query": FACTS},
    ).splitlines()
    assert [line for line in table if line.startswith("|")] == [
        "|  | system | clicked recall@10 | seeds | training |",
        "| --- | --- | --- | --- | --- |",
        "| a | `bm25` | 0.5000 |  |  |",
        "| b | `mmse` | **0.6000** ± 0.0100 <sup>a,c</sup> | 2 | 61 s |",
        "| c | `two_tower` | 0.4500 | 2 |  |",
        "|  | `mmse` / `bm25` | 1.200x |  |  |",
    ]
    assert (
        "Logs: `python convert.py`. 1302 held-out queries, 29778 items. BM25 (tuned on the train split's queries): "
        "k1 = 0.4, b = 0.75. Machine: a processor, 2 cores." in table
    )
    assert "Not the presets' own values: `epochs=1` for `two_tower`." in table
    assert (
        "Made by `python -m benchmarks.quality --data elo7 --splits query --systems bm25 mmse two_tower --seeds 0 1`."
        in table
    )


def test_the_parts_of_mmse_are_shown_by_what_is_lost_without_them_and_gained_with_others() -> (
    None
):
    text = markdown.render(
        [
            row("mmse", 0.6, better_than=["mmse_without_word"]),
            row("mmse_without_word", 0.55),
            row("mmse_without_log_q", 0.61),
            row("mmse_with_hinge", 0.57),
            row("mmse", 0.4, data="simulator"),
            row("mmse_without_word", 0.3, data="simulator"),
            row("mmse", 0.2, data="simulator", metric="recall@100"),
        ],
        {"elo7 query": FACTS, "simulator query": FACTS},
    )
    assert "| a | `mmse` | **0.6000** ± 0.0100 | 2 | 61 s |" in text
    assert "`mmse_without_word`" not in text
    table = text.splitlines()
    worth = table[table.index("## What each part of `mmse` is worth") :]
    assert [line for line in worth if line.startswith("|")] == [
        "| part | elo7 query: clicked recall@10 | simulator query: clicked recall@10 |",
        "| --- | --- | --- |",
        "| word | **+0.0500** | +0.1000 |",
        "| log q | -0.0100 | – |",
        "| part | elo7 query: clicked recall@10 |",
        "| --- | --- |",
        "| hinge | -0.0300 |",
    ]


def test_letters_go_on_after_z() -> None:
    named = [markdown.letters(number) for number in (0, 25, 26, 27, 52)]
    assert named == ["a", "z", "aa", "ab", "ba"]


def test_ratios_are_over_bm25() -> None:
    table = [row("bm25", 0.5), row("mmse", 0.6), row("mmse", 0.1, metric="recall@100")]
    assert markdown.ratios(table) == {"elo7 query: clicked recall@10, vs bm25": 1.2}
