"""The published version: what it holds, how it is checked, and that a failed export publishes nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.export import check, exporter, footprint, tuning
from serving.export.__main__ import main
from serving.export.catalogue import check_corpus
from serving.export.config import ExportConfig
from serving.export.exporter import export_model
from serving.export.queries import choose_queries
from serving.index import signatures
from serving.index.exact import ExactIndex
from serving.server.saved_model import read_warmup_requests
from serving.server.servable import Servable
from tests.serving.conftest import scann_is_faster
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError


def export_shop(shop: Any, output: Path, config: ExportConfig) -> dict[str, Any]:
    return export_model(
        shop.trained, shop.corpus, shop.queries, output, config, source={}
    )


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_the_served_score_is_the_trained_one(
    kind: str, request: pytest.FixtureRequest, shop: Any
) -> None:
    # The fused similarity of training is one inner product, so the index must serve exactly it.
    servable = Servable(request.getfixturevalue(f"{kind}_version"))
    found = servable.predict("", {"query": tf.make_tensor_proto(["Red SHOE", "lime"])})
    query = shop.trained.model.query_embedding(
        shop.trained.featurizer.query(tf.constant(["red shoe", "lime"]))
    ).numpy()
    scores = query @ shop.corpus.embedding.T
    assert found["item_id"][0, 0] == b"i0"
    np.testing.assert_allclose(
        found["score"], -np.sort(-scores, axis=1)[:, :5], rtol=1e-5
    )
    rows = [[int(name[1:]) for name in names] for names in found["item_id"]]
    np.testing.assert_allclose(
        found["score"], np.take_along_axis(scores, np.array(rows), axis=1), rtol=1e-5
    )


def test_the_manifest_says_what_the_version_is(
    exact_version: Path, scann_version: Path
) -> None:
    exact = json.loads((exact_version / "manifest.json").read_text())
    assert exact["format_version"] == schema.FORMAT_VERSION
    assert (exact["index"], exact["k"], exact["num_items"], exact["dimensions"]) == (
        {"kind": "exact"},
        5,
        100,
        16,
    )
    assert (exact["recall"], exact["required_custom_ops"]) == (1.0, [])
    assert exact["recall_queries"] == {"number": 50, "source": "made up"}
    assert exact["embed_item_inputs"] == {
        "title": "title",
        "Brand__EU_": "Brand (EU)",
        "price": "price",
    }
    assert exact["attributes"] == {
        "Brand (EU)": {"kind": "categorical", "num_values": 2},
        "price": {"kind": "number", "min": 0.0, "max": 98.0},
    }
    assert exact["training_config"]["preset"] == "mmse"
    assert {"tensorflow", "tfrs-mmse", "numpy"} <= exact["library_versions"].keys()
    scann = json.loads((scann_version / "manifest.json").read_text())
    assert scann["index"]["kind"] == "scann"
    assert scann["required_custom_ops"] == [
        "Scann>ScannSearchBatched",
        "Scann>TensorsToScann",
    ]


def test_the_manifest_holds_all_that_was_measured(scann_version: Path) -> None:
    manifest = json.loads((scann_version / "manifest.json").read_text())
    tuned, index = manifest["tuning"], manifest["index"]
    assert (tuned["target_recall"], tuned["queries"]) == (
        0.95,
        {"number": 50, "source": "made up"},
    )
    chosen = tuned["curve"][tuned["chosen"]]
    assert chosen["recall"] >= 0.95
    # Each is rounded to three digits.
    mean = (chosen["alone_ms"] + chosen["batch_ms"]) / 2
    assert chosen["ms"] == pytest.approx(mean, rel=0.01)
    assert index.items() - {("reason", index["reason"])} <= chosen.items()
    assert index["reason"].startswith("exact search takes 10 ms a query, ScaNN 1.0")
    assert [m["kind"] for m in tuned["curve"]].count("exact") == 1
    assert {m.get("dimensions_per_block") for m in tuned["curve"]} == {None, 2, 4}
    picture = (scann_version / "index.svg").read_text()
    for word in ("chosen", "target", "exact", "4 dimensions a block"):
        assert word in picture


@pytest.mark.usefixtures("verify_in_process")
def test_where_exact_search_is_the_faster_one_it_is_chosen(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tuning,
        "time_trials",
        lambda tried, query: [(1.0, 1.0) for each in tried for _ in each.trials],
    )
    result = export_shop(shop, tmp_path, ExportConfig(index="scann", k=5))
    assert (result["index"], result["recall"]) == ("exact", 1.0)
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text())
    assert manifest["index"]["kind"] == "exact"
    assert manifest["index"]["reason"].startswith("exact search takes 1 ms a query")
    assert manifest["required_custom_ops"] == []
    assert b"Scann" not in (tmp_path / "1" / "saved_model.pb").read_bytes()


@pytest.mark.usefixtures("verify_in_process")
def test_a_catalogue_too_small_for_scann_is_searched_exactly(
    shop_of: Callable[[list[str]], Any], tmp_path: Path
) -> None:
    shop = shop_of(["red shoe", "blue hat"])
    result = export_shop(shop, tmp_path, ExportConfig(index="scann", k=5))
    assert (result["num_items"], result["index"]) == (2, "exact")
    assert "too small" in (tmp_path / "1" / "manifest.json").read_text()


def test_an_export_that_cannot_fit_is_refused_before_it_starts(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 10 million items with 100 dimensions of 4 bytes are 4 GB.
    monkeypatch.setattr(footprint.machine, "available_memory", lambda: 5 * 10**9)
    with pytest.raises(
        CommandError,
        match=r"of memory and 5\.0 GB are available: the vectors of 10,000,000 items with 100 dimensions take 4\.0 GB",
    ):
        footprint.check(10**7, 100, shop.trained, tmp_path)
    monkeypatch.setattr(footprint.machine, "available_memory", lambda: 30 * 10**9)
    monkeypatch.setattr(footprint.machine, "available_disk", lambda folder: 10**9)
    with pytest.raises(CommandError, match=r"12\.0 GB of disk and 1\.0 GB are free"):
        footprint.check(10**7, 100, shop.trained, tmp_path)


def test_twice_the_vectors_are_needed_beside_what_does_not_grow_with_them(
    shop: Any,
) -> None:
    narrow, wide = (footprint.memory(10**6, d, shop.trained) for d in (100, 200))
    assert wide - narrow == 2 * 4 * 10**6 * 100


@pytest.mark.usefixtures("verify_in_process")
def test_versions_are_counted_up_and_leave_nothing_else_behind(
    exact_version: Path, shop: Any
) -> None:
    result = export_shop(
        shop, exact_version.parent / "more", ExportConfig(index="exact", k=3)
    )
    assert result == {
        "path": str(exact_version.parent / "more" / "1"),
        "version": 1,
        "index": "exact",
        "recall": 1.0,
        "k": 3,
        "num_items": 100,
        "dimensions": 16,
    }
    assert [p.name for p in (exact_version.parent / "more").iterdir()] == ["1"]
    assert exact_version.name == "1"


def test_warm_up_requests_are_real_ones_and_answerable(exact_version: Path) -> None:
    requests = list(read_warmup_requests(exact_version))
    # Eight queries one by one and together, for each of the three searches.
    assert len(requests) == 27
    assert {r.model_spec.signature_name for r in requests} == {
        "serving_default",
        "search_excluding",
        "search_filtered",
    }
    assert requests[0].inputs["query"].string_val[0] == b"red shoe"
    Servable(exact_version)  # replays them


@pytest.mark.usefixtures("verify_in_process")
def test_an_export_whose_answers_are_not_the_models_publishes_nothing(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    other = shop.corpus._replace(embedding=shop.corpus.embedding + 0.01)
    monkeypatch.setattr(exporter, "ExactIndex", lambda _: ExactIndex(other.embedding))
    with pytest.raises(
        CommandError,
        match=r"does not answer as the trained one does.*differ from the training model",
    ):
        export_shop(shop, tmp_path, ExportConfig(index="exact", k=5))
    assert [p.name for p in tmp_path.iterdir()] == ["7"]


@pytest.mark.usefixtures("verify_in_process")
def test_an_export_that_filters_by_other_items_values_publishes_nothing(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = signatures.FilterTable
    monkeypatch.setattr(
        signatures,
        "FilterTable",
        lambda attributes, num_items: built(
            {name: np.roll(values, 1) for name, values in attributes.items()}, num_items
        ),
    )
    with pytest.raises(
        CommandError,
        match=r"as the trained one does.*: search_filtered with \['Brand \(EU\)=.*not in the catalogue",
    ):
        export_shop(shop, tmp_path, ExportConfig(index="exact", k=5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("verify_in_process")
def test_an_attribute_that_no_filter_can_name_is_said_and_left_out(
    shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = shop.corpus._replace(attributes={"a=b": shop.corpus.attributes["price"]})
    config = ExportConfig(index="exact", k=5)
    result = export_shop(shop._replace(corpus=odd), tmp_path, config)
    manifest = json.loads((Path(result["path"]) / "manifest.json").read_text())
    assert manifest["attributes"] == {}
    said = "no filter can name 'a=b': rename what holds = < >"
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("verify_in_process")
def test_an_index_that_finds_too_little_is_not_published(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "recall", lambda score, exact: 0.85)
    monkeypatch.setattr(tuning, "time_trials", scann_is_faster)
    with pytest.raises(
        CommandError,
        match=r"scann index finds 0\.850 of the exact top 5, less than --min-recall 0\.9",
    ):
        export_shop(shop, tmp_path, ExportConfig(index="scann", k=5))
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_a_fresh_process_cannot_load_is_not_published(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_bad_warmup(
        version_dir: Path, model_name: str, queries: list[str], filters: Any
    ) -> None:
        original(version_dir, model_name, [*queries[:1], "!!!"], filters)

    original = exporter.write_warmup_requests
    monkeypatch.setattr(exporter, "write_warmup_requests", write_bad_warmup)
    with pytest.raises(
        CommandError,
        match=r"fresh process cannot use.*query must hold at least one letter or digit",
    ):
        export_shop(shop, tmp_path, ExportConfig(index="exact", k=5))
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_that_cannot_be_searched_is_refused(shop: Any) -> None:
    corpus = shop.corpus
    with pytest.raises(CommandError, match="the items stream is empty"):
        check_corpus(
            corpus._replace(item_id=corpus.item_id[:0], embedding=corpus.embedding[:0])
        )
    twice = corpus.item_id.copy()
    twice[3] = b"i5"
    with pytest.raises(CommandError, match="1 occur more than once, i5 for one"):
        check_corpus(corpus._replace(item_id=twice))
    broken = corpus.embedding.copy()
    broken[[2, 4], 0] = np.nan
    with pytest.raises(
        CommandError, match="2 of 100 item embeddings that are not finite"
    ):
        check_corpus(corpus._replace(embedding=broken))


def test_without_a_log_the_titles_are_the_queries(shop: Any, tmp_path: Path) -> None:
    queries = choose_queries(tmp_path, shop.trained.manifest, shop.corpus)
    assert queries.held_out[:2] == ["red shoe", "red lamp"]
    assert queries.tuning[:2] == ["red hat", "red chair"]
    assert queries.source == "titles of items, for want of queries"


@pytest.mark.usefixtures("verify_in_process")
def test_a_single_item_can_be_exported(
    shop_of: Callable[[list[str]], Any], tmp_path: Path
) -> None:
    result = export_shop(
        shop_of(["red shoe"]), tmp_path, ExportConfig(index="exact", k=5)
    )
    assert (result["num_items"], result["recall"]) == (1, 1.0)


def test_a_model_of_another_format_version_is_refused_in_one_sentence(
    shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(shop.trained.manifest.to_json())
    (tmp_path / "config.json").write_text('{"format_version": 999}')
    flags = [
        "--data",
        str(tmp_path),
        "--model-dir",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*flags, "--index", "exact"]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"error: {tmp_path}/config.json is of format version 999, this program reads version "
        f"{schema.FORMAT_VERSION}: write it anew with this version of tfrs-mmse\n"
    )
    assert said.out == ""


def test_without_scann_the_export_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    assert main(["--data", "d", "--model-dir", "m", "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ScaNN cannot be used with TensorFlow 2.")
    assert said.endswith(
        'install the pair that fits with pip install "tfrs-mmse[scann]", or use --index exact\n'
    )


@pytest.mark.parametrize(
    "module",
    [
        "serving.export",
        "serving.server",
        "serving.client",
        "serving.export.verify",
        "serving.index.scann_build",
    ],
)
def test_help_does_not_wait_for_tensorflow(module: str) -> None:
    script = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as e: assert not e.code\n"
        "assert 'tensorflow' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert f"python -m {module}" in finished.stdout
