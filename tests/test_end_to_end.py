"""From raw logs to an answered query over a real socket, through the commands that users type."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from beam import preprocess
from serving.client import __main__ as client
from serving.export import __main__ as export
from tfrs_mmse import evaluate, train

ROOT = Path(__file__).resolve().parents[1]
ELO7 = Path(os.environ.get("ELO7_DIR", ROOT.parent / "shared/data/elo7"))

CATALOGUE = """item_id,title,brand,price
m1,Blue mug,Acme,7.50
m2,Red mug,Acme,8
m3,Blue tea pot,Zeta,21.00
l1,Desk lamp,Lumo,30
l2,Floor lamp,Lumo,55
c1,Green chair,,80
"""
# Every request: what was asked, what was shown, what was clicked, what was ordered.
LOG = [
    ("blue mug", ["m1", "m3", "m2"], "m1", "m1"),
    ("Mug!", ["m2", "m1", "l1"], "m2", None),
    ("lamp", ["l1", "l2", "c1"], "l2", "l2"),
    ("tea pot", ["m1", "m3"], "m3", None),
    ("desk lamp", ["l1", "l2"], "l1", "l1"),
    ("chair", ["l1", "c1"], "c1", None),
    ("BLUE  mug", ["m2", "m1"], "m1", None),
    ("floor lamp", ["l2", "l1"], "l2", None),
    ("mug", ["m1", "m2"], "m2", "m2"),
    ("lamp", ["l2", "l1"], "l1", None),
]


def write_logs(directory: Path) -> tuple[Path, Path]:
    items, events = directory / "items.csv", directory / "events.jsonl"
    items.write_text(CATALOGUE)
    with events.open("w") as file:
        for number, (query, shown, clicked, ordered) in enumerate(LOG):
            row = {
                "request_id": f"r{number}",
                "timestamp": 1_700_000_000 + number,
                "query": query,
            }
            for position, item_id in enumerate(shown):
                event = {
                    "event": "impression",
                    "item_id": item_id,
                    "position": position,
                }
                file.write(json.dumps(row | event) + "\n")
            file.write(json.dumps(row | {"event": "click", "item_id": clicked}) + "\n")
            if ordered:
                file.write(
                    json.dumps(row | {"event": "order", "item_id": ordered}) + "\n"
                )
    return events, items


@contextlib.contextmanager
def serve(base_path: Path, name: str) -> Iterator[str]:
    """`python -m serving.server` on a free port, as HOST:PORT."""
    flags = [
        "--model_base_path",
        str(base_path),
        "--model_name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    argv = [sys.executable, "-m", "serving.server", *flags]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        try:
            assert server.stderr is not None
            said = []
            for line in server.stderr:
                said.append(line)
                if ready := re.search(r"version \d+ on (\S+)", line):
                    yield ready[1]
                    break
            else:
                raise AssertionError("".join(said))
        finally:
            server.terminate()
            _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors


def result_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


class TinyShop(NamedTuple):
    items: Path
    data: Path
    run: Path


@pytest.fixture(scope="module")
def tiny_shop(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    """Ten requests, preprocessed and trained on."""
    root = tmp_path_factory.mktemp("tiny")
    events, items = write_logs(root)
    data, run = root / "examples", root / "run"
    source = ["--events", str(events), "--items", str(items), "--output", str(data)]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert preprocess.main(source) == 0
    # Of the ten requests the last two lie in the last fifth of the period.
    splits = json.loads(out.getvalue())["splits"]
    assert {s: n["requests"] for s, n in splits.items()} == {"train": 8, "test": 2}
    settings = [
        "epochs=15",
        "embedding_dim=16",
        "attribute_dim=8",
        "synthetic_queries=4",
        "uniform_negatives=4",
        "batch_size=4",
    ]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    assert train.main(["--data", str(data), "--model-dir", str(run), *flags]) == 0
    return TinyShop(items, data, run)


def test_ten_requests_are_enough_to_find_what_was_clicked(
    tiny_shop: TinyShop, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tiny_shop.data), str(tiny_shop.run)
    assert evaluate.main(["--data", data, "--model-dir", run]) == 0
    figures = result_of(capsys)
    assert figures["num_queries"] == 2
    assert figures["systems"]["mmse"]["clicked"]["recall@10"] == 1.0  # ten of six items


@pytest.mark.parametrize("index", ["exact", "scann"])
def test_ten_requests_become_an_answer(
    index: str,
    tiny_shop: TinyShop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items, data, run = tiny_shop
    models = tmp_path / "models"
    exporting = [
        "--data",
        str(data),
        "--model-dir",
        str(run),
        "--output",
        str(models),
        "--index",
        index,
        "--k",
        "4",
    ]
    assert export.main(exporting) == 0
    exported = result_of(capsys)
    assert (exported["version"], exported["num_items"]) == (1, 6)

    with serve(models, "shop") as target:
        asking = [
            "--target",
            target,
            "--model",
            "shop",
            "--query",
            "Blue MUG",
            "--query",
            "lamp",
            "--k",
            "2",
        ]
        assert client.main([*asking, "--items", str(items), "--json"]) == 0
        mug, lamp = result_of(capsys)
        assert (mug["hits"][0]["item_id"], mug["hits"][0]["title"]) == (
            "m1",
            "Blue mug",
        )
        assert {hit["item_id"] for hit in lamp["hits"]} == {"l1", "l2"}
        assert client.main(asking) == 0
        assert re.search(r"1 +\d\.\d+ +m1", capsys.readouterr().out)
        for query, sentence in (
            ("", "at least one letter or digit"),
            ("🎄", "at least one letter or digit"),
        ):
            assert (
                client.main(["--target", target, "--model", "shop", "--query", query])
                == 1
            )
            assert sentence in capsys.readouterr().err
        assert (
            client.main(
                ["--target", target, "--model", "shop", "--query", "x" * 10_000]
            )
            == 1
        )
        assert "at most 1024 bytes long" in capsys.readouterr().err


def test_a_catalogue_alone_gives_a_model_that_a_later_log_judges(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tmp_path / "catalogue"), str(tmp_path / "run")
    catalogue = ["--items", str(simulated_shop.items), "--output", data]
    assert preprocess.main(catalogue) == 0
    assert result_of(capsys)["splits"] == {}
    data_and_model = ["--data", data, "--model-dir", run]
    assert train.main(data_and_model) == 1
    assert "--preset cold_start" in capsys.readouterr().err

    small = ("epochs=20", "embedding_dim=16", "synthetic_queries=64")
    settings = [flag for setting in small for flag in ("--set", setting)]
    assert train.main([*data_and_model, "--preset", "cold_start", *settings]) == 0
    capsys.readouterr()
    assert evaluate.main(data_and_model) == 1
    assert "--held-out" in capsys.readouterr().err
    judged_by = ["--held-out", str(simulated_shop.examples), "--no-report"]
    assert evaluate.main([*data_and_model, *judged_by]) == 0
    figures = result_of(capsys)
    # By chance 10 of 300 items hold 3% of what was clicked.
    assert figures["systems"]["cold_start"]["clicked"]["recall@10"] > 0.15
    assert figures["groups"]["seen"] is None


@pytest.mark.slow
def test_a_model_of_real_search_logs_soon_finds_more_than_bm25(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (ELO7 / "convert.py").exists():
        pytest.skip(f"the Elo7 logs are not in {ELO7}: name their folder in ELO7_DIR")
    logs, data, run, models = (
        tmp_path / name for name in ("logs", "examples", "run", "models")
    )
    subprocess.run(
        [sys.executable, str(ELO7 / "convert.py"), str(logs)],
        check=True,
        capture_output=True,
    )
    sources = [
        "--events",
        str(logs / "events.jsonl"),
        "--items",
        str(logs / "items.jsonl"),
    ]
    assert (
        preprocess.main([*sources, "--output", str(data), "--split-by", "query"]) == 0
    )
    accounting = result_of(capsys)["accounting"]
    assert accounting["events"]["read"] == 253_851
    data_and_model = ["--data", str(data), "--model-dir", str(run)]
    # A third of the default; benchmarks/results/quality.md has all of it.
    assert train.main([*data_and_model, "--set", "epochs=4"]) == 0
    capsys.readouterr()
    assert evaluate.main([*data_and_model, "--no-report"]) == 0
    figures = result_of(capsys)
    mmse, bm25 = (figures["systems"][name]["clicked"] for name in ("mmse", "bm25"))
    assert mmse["recall@100"] > bm25["recall@100"] > 0.8
    assert mmse["recall@10"] > bm25["recall@10"] > 0.5

    assert export.main([*data_and_model, "--output", str(models)]) == 0
    exported = result_of(capsys)
    assert exported["num_items"] == 29_778
    assert exported["recall"] >= 0.9
    with serve(models, "elo7") as target:
        asking = [
            "--target",
            target,
            "--model",
            "elo7",
            "--items",
            str(logs / "items.jsonl"),
            "--json",
        ]
        assert client.main([*asking, "--query", "lembrancinha de casamento"]) == 0
        [answer] = result_of(capsys)
        assert len(answer["hits"]) == 10
        assert sum("lembranc" in hit["title"].lower() for hit in answer["hits"]) >= 5
