import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from tfrs_mmse import per_query
from tfrs_mmse.cli import CommandError

FIGURES = {
    "mmse": {
        "clicked": {"recall@10": np.array([0.5, np.nan])},
        "all": {"ndcg@10": np.array([0.25, 1])},
    },
    "bm25": {"clicked": {"recall@10": np.array([0.0, np.nan])}},
}


def evaluation(model_dir: Path, task: str = "x") -> Path:
    folder = model_dir / "evaluation"
    folder.mkdir(parents=True)
    document = {"task": task, "systems": {"bm25": {}, "mmse": {}}}
    (folder / "test.json").write_text(json.dumps(document))
    per_query.write(folder / "test.parquet", [b"a", b"b"], FIGURES)
    return folder


def test_a_row_a_query_and_a_column_a_figure(tmp_path: Path) -> None:
    per_query.write(tmp_path / "x.parquet", ["maçã".encode(), b"b"], FIGURES)
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == {
        "query": ["maçã", "b"],
        "mmse/clicked/recall@10": [0.5, None],
        "mmse/all/ndcg@10": [0.25, 1],
        "bm25/clicked/recall@10": [0, None],
    }


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    per_query.write(tmp_path / "x.parquet", [b"a", b"b"], FIGURES)
    found = per_query.read(tmp_path / "x.parquet", "mmse")
    assert list(found) == ["clicked", "all"]
    for segment, named in FIGURES["mmse"].items():
        for name, values in named.items():
            assert_array_equal(found[segment][name], values)


def test_the_task_is_queries_levels_and_items_in_any_order() -> None:
    qrels = {b"q": {b"a": 2, b"b": 3}, b"r": {b"a": 1}}
    task = per_query.task_hash(qrels, [b"a", b"b"])
    other_order = {b"r": {b"a": 1}, b"q": {b"b": 3, b"a": 2}}
    assert per_query.task_hash(other_order, [b"b", b"a"]) == task
    for changed, items in [
        ({b"q": {b"a": 2, b"b": 2}, b"r": {b"a": 1}}, [b"a", b"b"]),
        ({b"q": {b"a": 2, b"b": 3}}, [b"a", b"b"]),
        (qrels, [b"a", b"b", b"c"]),
    ]:
        assert per_query.task_hash(changed, items) != task


def test_finds_the_model_among_the_systems_of_an_earlier_evaluation(
    tmp_path: Path,
) -> None:
    evaluation(tmp_path)
    found = per_query.read_previous(tmp_path, "test", "x", "bm25")
    assert found.system == "mmse"
    assert_array_equal(found.figures["all"]["ndcg@10"], [0.25, 1])


def test_an_evaluation_that_is_missing_broken_or_another_is_refused(
    tmp_path: Path,
) -> None:
    def refused(message: str, split: str = "test", task: str = "x") -> None:
        with pytest.raises(CommandError, match=message):
            per_query.read_previous(tmp_path, split, task, "bm25")

    refused("there is no test.json: run `python -m tfrs_mmse.evaluate --model-dir")
    folder = evaluation(tmp_path)
    refused("of the split 'train' .* there is no train.json", split="train")
    refused("is of other queries, levels or items", task="y")
    (folder / "test.parquet").unlink()
    refused("there is no test.parquet")
    (folder / "test.parquet").touch()
    (folder / "test.json").write_text("{")
    refused("test.json is not valid JSON")
