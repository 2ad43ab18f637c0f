"""`python -m tfrs_mmse.evaluate` on a tiny catalogue, from records and a checkpoint to figures and files."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
import tensorflow as tf
from ir_measures import R, nDCG
from numpy.testing import assert_array_equal

from tfrs_mmse import evaluate, per_query, restore
from tfrs_mmse.config import TrainConfig

WriteRequests = Callable[[Path, list[tuple[str, dict[str, int]]]], None]

CATALOGUE = {
    "nut": "Red nut\nsteel",
    "bolt": "Red bolt\nsteel",
    "screw": "Blue screw\nbrass",
    "big nut": "Big blue nut\nsteel",
    "tea": "Chá verde\ncup",
}
REQUESTS = [
    ("red nut", {"nut": 2, "bolt": 1}),
    ("red nut", {"nut": 1, "tea": 2}),
    ("blue nut", {"big nut": 3, "nut": 2, "screw": 1}),
    ("cha", {"tea": 1}),
    ("unknown", {"screw": 2}),
]
WORDS = ["red", "blue", "nut", "bolt", "screw", "steel"]


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, shop_writer: Callable[..., Any]
) -> Path:
    """A directory with `examples/` and an untrained model in `run/`."""
    root = tmp_path_factory.mktemp("shop")
    writer = shop_writer(root, WORDS)
    writer.write_items(CATALOGUE)
    writer.write_requests("test", REQUESTS)
    writer.write_model(TrainConfig(embedding_dim=4))
    return root


def arguments(shop: Path, *more: str) -> list[str]:
    return ["--data", str(shop / "examples"), "--model-dir", str(shop / "run"), *more]


def fails_with(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    """The command exits with 1, one sentence on stderr, and nothing on stdout."""
    assert evaluate.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"error: .*{message}.*\n", err), err


def test_prints_the_figures_of_model_and_baseline(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(arguments(shop)) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["split"], result["num_queries"], result["num_items"]) == (
        "test",
        4,
        5,
    )
    # `cha` has only an unclicked item, and only `blue nut` has an ordered one.
    assert result["averaged_over"] == {"clicked": 3, "ordered": 1, "all": 4}
    assert list(result["systems"]) == ["mmse", "bm25"]
    # BM25 finds `nut` but not `tea` for `red nut`, both items of `blue nut`, and nothing for `unknown`.
    assert result["systems"]["bm25"]["clicked"] == {
        f"recall@{k}": 0.5 for k in (10, 100, 1000)
    }
    assert result["systems"]["bm25"]["ordered"] == {
        f"recall@{k}": 1 for k in (10, 100, 1000)
    }
    # The whole catalogue fits into ten results.
    assert result["systems"]["mmse"]["clicked"] == {
        f"recall@{k}": 1 for k in (10, 100, 1000)
    }
    assert 0 < result["systems"]["mmse"]["all"]["ndcg@10"] < 1
    assert json.loads((shop / "run" / "evaluation" / "test.json").read_text()) == result


def test_repeats_the_figures_for_groups_of_queries_and_items(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(arguments(shop)) == 0
    result = json.loads(capsys.readouterr().out)
    # This shop has no train split: everything is unseen and new.
    assert result["groups"]["seen"] is result["groups"]["items_with_clicks"] is None
    assert result["groups"]["unseen"] == {
        "averaged_over": result["averaged_over"],
        "systems": result["systems"],
    }
    new = result["groups"]["new_items"]
    assert new["averaged_over"] == {"clicked": 3, "ordered": 1}
    assert new["systems"]["bm25"] == {
        s: result["systems"]["bm25"][s] for s in ("clicked", "ordered")
    }
    # `red nut` has two of the five requests, the other three queries one each.
    assert result["groups"]["head"]["averaged_over"]["all"] == 1
    assert result["groups"]["torso"]["averaged_over"]["all"] == 3
    assert result["groups"]["tail"] is None


def test_says_how_recall_grows_and_whether_scores_order_the_levels(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(arguments(shop)) == 0
    result = json.loads(capsys.readouterr().out)
    recall = result["curves"]["bm25"]["clicked"]
    # `red nut` finds `nut` first of its two, `blue nut` has `big nut` first and then `nut`, `unknown` finds nothing.
    assert recall["recall@1"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3, abs=1e-6)
    assert recall["recall@2"] == pytest.approx((1 / 2 + 1 + 0) / 3, abs=1e-6)
    pairs = result["level_pairs"]["mmse"]
    assert pairs["ordered>clicked"]["num_queries"] == 1
    assert pairs["clicked>unclicked"]["num_queries"] == 2
    assert 0 <= pairs["clicked>unclicked"]["accuracy"] <= 1


def test_compares_with_the_baseline_and_with_another_evaluation(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(shop / "run", other)
    data = ["--data", str(shop / "examples")]
    assert evaluate.main([*data, "--model-dir", str(other)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first["comparisons"]) == ["bm25"]
    assert (
        first["comparisons"]["bm25"]["clicked"]["recall@10"]
        == {
            "difference": 0.5,  # 1, 1, 1 against 1/2, 1, 0
            "p_value": 0.225,  # of t = 0.5 / sqrt(0.25 / 3) = 1.732 with 2 degrees of freedom
            "significant": False,
            "better": 2,
            "worse": 0,
            "num_queries": 3,
        }
    )
    assert evaluate.main(arguments(shop, "--compare", str(other))) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["previous"] == {
        "model_dir": str(other),
        "systems": {"mmse": first["systems"]["mmse"]},
    }
    same = second["comparisons"]["previous"]["all"]["ndcg@10"]
    assert (same["difference"], same["p_value"], same["num_queries"]) == (0, 1, 4)


def test_another_evaluation_must_be_there_and_of_the_same_queries(
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write_requests: WriteRequests,
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    other = tmp_path / "shop" / "run"
    shutil.rmtree(other / "evaluation", ignore_errors=True)
    compare = arguments(shop, "--compare", str(other))
    fails_with(
        capsys, compare, "there is no test.json: run `python -m tfrs_mmse.evaluate"
    )
    path = tmp_path / "shop" / "examples" / "test-00000-of-00001.tfrecord.gz"
    write_requests(path, [("red nut", {"nut": 2})])
    assert evaluate.main(arguments(tmp_path / "shop")) == 0
    capsys.readouterr()
    fails_with(capsys, compare, "is of other queries, levels or items than this one")


def test_writes_the_figures_of_every_query(shop: Path) -> None:
    assert evaluate.main(arguments(shop)) == 0
    path = shop / "run" / "evaluation" / "test.parquet"
    figures = per_query.read(path, "bm25")
    # In the order of their bytes: `blue nut`, `cha`, `red nut`, `unknown`.
    assert_array_equal(figures["clicked"]["recall@10"], [1, np.nan, 1 / 2, 0])


def test_the_report_can_be_left_out(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    report = tmp_path / "shop" / "run" / "evaluation" / "report.html"
    report.unlink(missing_ok=True)
    assert evaluate.main(arguments(tmp_path / "shop", "--no-report")) == 0
    assert not report.exists()
    assert evaluate.main(arguments(tmp_path / "shop")) == 0
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_baseline_reads_raw_text_beyond_the_vocabulary(
    shop: Path, tmp_path: Path
) -> None:
    # `cha` is in no vocabulary, and folds to a word of `Chá verde`.
    assert evaluate.main(arguments(shop, "--run-output", str(tmp_path / "x"))) == 0
    queries = dict(
        line.split("\t")
        for line in (tmp_path / "x.queries.tsv").read_text().splitlines()
    )
    found = [
        line.split() for line in (tmp_path / "x.bm25.run").read_text().splitlines()
    ]
    assert [row[2] for row in found if queries[row[0]] == "cha"] == ["tea"]
    # `nut` has 3 words as `bolt` does and two of the query's; `big nut` matches one of the two, in 4 words.
    assert [row[2] for row in found if queries[row[0]] == "red nut"] == [
        "nut",
        "bolt",
        "big%20nut",
    ]


def test_the_files_hold_what_ir_measures_needs_to_agree(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = tmp_path / "new" / "folder" / "x"
    assert evaluate.main(arguments(shop, "--run-output", str(prefix))) == 0
    result = json.loads(capsys.readouterr().out)
    qrels = list(ir_measures.read_trec_qrels(f"{prefix}.qrels"))
    assert sorted(q.relevance for q in qrels) == [1, 1, 1, 2, 2, 2, 2, 3]
    for system, path in (("mmse", f"{prefix}.run"), ("bm25", f"{prefix}.bm25.run")):
        run = list(ir_measures.read_trec_run(path))
        theirs = ir_measures.calc_aggregate(
            [R(rel=2) @ 10, R(rel=3) @ 10, nDCG @ 10], qrels, run
        )
        ours = result["systems"][system]
        assert ours["clicked"]["recall@10"] == pytest.approx(
            theirs[R(rel=2) @ 10] * 4 / 3, abs=1e-6
        )
        assert ours["ordered"]["recall@10"] == pytest.approx(
            theirs[R(rel=3) @ 10] * 4 / 1, abs=1e-6
        )
        assert ours["all"]["ndcg@10"] == pytest.approx(theirs[nDCG @ 10], abs=1e-6)


def test_the_order_of_item_shards_changes_no_figure(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "shop"
    shutil.copytree(shop, other)
    items = [other / "examples" / f"items-0000{i}-of-00002.tfrecord.gz" for i in (0, 1)]
    items[0].rename(tmp_path / "aside")
    items[1].rename(items[0])
    (tmp_path / "aside").rename(items[1])
    assert evaluate.main(arguments(shop)) == evaluate.main(arguments(other)) == 0
    first, second = re.split(
        r"(?<=^})\n", capsys.readouterr().out, maxsplit=1, flags=re.M
    )
    # Words outside the vocabulary make items that the model cannot tell apart; those tie and rank by row.
    assert json.loads(first)["systems"]["bm25"] == json.loads(second)["systems"]["bm25"]
    assert json.loads(first)["averaged_over"] == json.loads(second)["averaged_over"]


def test_the_baseline_can_be_left_out(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        evaluate.main(arguments(shop, "--no-bm25", "--run-output", str(tmp_path / "x")))
        == 0
    )
    assert list(json.loads(capsys.readouterr().out)["systems"]) == ["mmse"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.qrels",
        "x.queries.tsv",
        "x.run",
    ]


def test_a_split_that_was_not_written_is_named(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_with(
        capsys,
        arguments(shop, "--split", "train"),
        "holds no requests of the split 'train': name examples that hold some with --held-out",
    )


def test_an_unknown_split_is_a_usage_error(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as e:
        evaluate.main(arguments(shop, "--split", "items"))
    assert e.value.code == 2
    assert (
        "argument --split: invalid choice: 'items' (choose from 'train', 'test')"
        in capsys.readouterr().err
    )


def test_a_split_in_which_nobody_clicked_is_refused(
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write_requests: WriteRequests,
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    path = tmp_path / "shop" / "examples" / "test-00000-of-00001.tfrecord.gz"
    write_requests(path, [("red nut", {"nut": 1})])
    fails_with(
        capsys,
        arguments(tmp_path / "shop"),
        "expected clicked or ordered items .* none of its 1 queries",
    )


def test_examples_or_models_of_another_format_are_refused(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    for path in (
        tmp_path / "shop" / "run" / "config.json",
        tmp_path / "shop" / "examples" / "manifest.json",
    ):
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "format_version": 99})
        )
        fails_with(
            capsys,
            arguments(tmp_path / "shop"),
            f"{path.name} is of format version 99, .* reads version 2",
        )


def test_directories_that_are_not_there_are_named(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(shop / "nowhere")
    data, run = str(shop / "examples"), str(shop / "run")
    fails_with(
        capsys,
        ["--data", missing, "--model-dir", run],
        "nowhere, but there is no manifest.json",
    )
    fails_with(
        capsys,
        ["--data", data, "--model-dir", missing],
        "nowhere, but there is no config.json",
    )


def test_a_model_that_diverged_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = restore.load_trained

    def diverged(data: Path, model_dir: Path) -> restore.Trained:
        trained = load(data, model_dir)
        for variable in trained.model.trainable_variables:
            variable.assign(tf.fill(variable.shape, float("nan")))
        return trained

    monkeypatch.setattr(restore, "load_trained", diverged)
    assert evaluate.main(arguments(shop)) == 1
    assert (
        "error: expected finite embeddings from the model, got NaN"
        in capsys.readouterr().err
    )


def test_judged_items_outside_the_catalogue_are_reported(
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write_requests: WriteRequests,
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    path = tmp_path / "shop" / "examples" / "test-00000-of-00001.tfrecord.gz"
    write_requests(path, [("red nut", {"nut": 2, "gone": 3})])
    assert evaluate.main(arguments(tmp_path / "shop")) == 0
    out, err = capsys.readouterr()
    assert "1 judged items are not in the catalogue and count as not found" in err
    assert json.loads(out)["systems"]["mmse"]["clicked"]["recall@10"] == 0.5
    assert json.loads(out)["systems"]["mmse"]["ordered"]["recall@10"] == 0


def test_help_answers_without_loading_tensorflow() -> None:
    heavy = {"tensorflow", "ranx", "numba", "matplotlib"}
    code = f"import sys; from tfrs_mmse import evaluate; assert not {heavy} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def test_figures_are_named_by_the_preset(
    shop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = restore.load_trained

    def renamed(data: Path, model_dir: Path) -> restore.Trained:
        trained = load(data, model_dir)
        return trained._replace(
            config=dataclasses.replace(trained.config, preset="two_tower")
        )

    monkeypatch.setattr(restore, "load_trained", renamed)
    assert evaluate.main(arguments(shop, "--run-output", str(tmp_path / "x"))) == 0
    assert list(json.loads(capsys.readouterr().out)["systems"]) == ["two_tower", "bm25"]
    assert {
        line.split()[5] for line in (tmp_path / "x.run").read_text().splitlines()
    } == {"two_tower"}
