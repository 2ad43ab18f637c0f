"""The programs that preprocessing is compared with do the same work: the same records, levels and joins."""

import contextlib
import functools
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tensorflow as tf

import beam.preprocess
from beam.config import PreprocessConfig
from benchmarks.preprocess import __main__ as preprocess
from benchmarks.preprocess import measure, with_polars
from benchmarks.preprocess.element_wise import __main__ as element_wise
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

HOUR, DAY = 3600, 86400


def impression(request: Any, at: Any, query: Any, item: Any, **more: Any) -> Any:
    fields = {"request_id": request, "timestamp": at, "query": query, "item_id": item}
    return {"event": "impression", **fields, **more}


def click(request: Any, at: Any, query: Any, item: Any, **more: Any) -> Any:
    return impression(request, at, query, item, **more) | {"event": "click"}


def order(at: Any, item: Any, **more: Any) -> Any:
    return {"event": "order", "timestamp": at, "item_id": item, **more}


def cart(at: Any, item: Any, **more: Any) -> Any:
    return order(at, item, **more) | {"event": "cart"}


ITEMS: list[Any] = [
    {"item_id": "a", "title": "Red shoe", "brand": "Acme", "price": 10, "tags": ["x"]},
    {"item_id": "b", "title": "Blue shoe", "brand": "ACMÉ", "price": "20.5"},
    {"item_id": "c", "title": "Red hat", "brand": "Zed", "price": None},
    {"item_id": "d", "title": "Green hat", "brand": "", "price": 1e-7, "tags": "big"},
    # Of several rows of an item the latest counts, of equally late ones the first.
    {"item_id": "a", "title": "Another red shoe", "brand": "Acme", "price": 11},
    {"item_id": "b", "title": "Navy shoe", "updated_at": "2024-01-01", "brand": "Zed"},
    {"item_id": "b", "title": "Late shoe", "updated_at": 1704067200, "brand": "Acme"},
    # A number and its digits are one id; a blank one, or one that is no id at all, is none.
    {"item_id": 7, "title": 42, "brand": 2020, "price": "1e3"},
    {"item_id": "7", "title": "A duplicate"},
    {"item_id": 7.0, "title": "A float is no id"},
    {"item_id": " ", "title": "Blank"},
    {"item_id": "no title", "title": " \t"},
    {"item_id": "no price", "title": "Too dear", "price": 1e39},
    {"item_id": "new\nline", "title": "東京 タワー", "brand": "café", "price": 20.5},
    {"item_id": "zero", "title": "nul \0 inside, ´ and 😀", "tags": ["a", None, 1.5]},
    {"item_id": "long", "title": " ".join(f"word{n}" for n in range(100))},
    *({"item_id": f"i{n}", "title": f"item {n % 5}", "price": n} for n in range(30)),
]
BAD_LINES = [b"{", b"[1]", b'"text"', b'{"item_id": "\xff"}', b'{"item_id": "\\ud800"}']

EVENTS: list[Any] = [
    # The query is that of the earliest event, also where the catalogue lacks its item.
    impression("r1", 100, "  Red SHOES ", "gone", position=0, user_id="u"),
    impression("r1", 101, "red shoes", "a", position=1, user_id="u"),
    impression("r1", 101, "red shoes", "a", position=5, user_id="u"),
    click("r1", 110, "red shoes", "a", user_id="u"),
    click("r1", 111, "aaa", "b", position="2", user_id="u"),
    impression("r1", 112, "red shoes", "c", position=3.0, user_id="u"),
    # Orders without a request: the latest click before them, at most a day earlier.
    order(111, "a", user_id="u", query="something else"),
    order(110 + DAY, "a", user_id="u"),
    order(110.5 + DAY, "a", user_id="u"),
    order(109, "a", user_id="u"),
    order(200, "a", user_id="somebody else"),
    order(200, "a"),
    order(200, "gone", user_id="u"),
    click("r1", 150, "red shoes", "gone", user_id="u"),
    # Two clicks in one moment: the request that is last by alphabet.
    click("r2", 500, "hat", "c", user_id="v"),
    click("r3", 500, "Hat", "c", user_id="v"),
    order(500, "c", user_id="v"),
    # A cart event with a request is a click that an order can belong to, and may itself have no request.
    cart(600, "d", user_id="v", request_id="r3"),
    order(700, "d", user_id="v", query="never seen here"),
    cart(620, "c", user_id="v"),
    cart(620, "c", user_id="nobody"),
    # No event says what the query was; only unclicked; only items that the catalogue lacks.
    order(800, "a", request_id="no query"),
    impression("no click", 810, "hat", "a"),
    click("unknown", 820, "hat", "gone"),
    impression("unknown", 820, "hat", "gone too"),
    impression("half unknown", 830, "hat", "a"),
    click("half unknown", 830, "hat", "gone"),
    # Ids that look alike are one request; a moment in other forms.
    impression(7, "900", "HÁT", "c", position=0),
    click("7", "1970-01-01T00:15:05+00:00", "hat", 7, position=None),
    impression(7, "1970-01-01T01:00:00+01:00", "hat", "new\nline"),
    # Contested: unclicked in one train request, ordered or clicked in another one of the folded query.
    impression("r4", 1000, "hät", "7", position=0),
    impression("r4", 1000, "hät", "zero", position=1),
    click("r4", 1001, "hät", "long", position=2),
    # Positions: ties, unknown ones, far ones, many.
    *(impression("r5", 1100, "shoe", f"i{n}", position=n // 2) for n in range(30)),
    *(impression("r5", 1100, "shoe", item) for item in ("a", "b", "c")),
    click("r5", 1101, "shoe", "i8"),
    click("r5", 1102, "shoe", "i20", position=10),
    *(impression("r6", 1200, "shoe", f"i{n}") for n in range(25)),
    click("r6", 1201, "shoe", "i3"),
    impression("r7", 1250, "shoe", "i1", position=2**31 - 1),
    impression("r7", 1250, "shoe", "i2", position=2**31 - 3),
    click("r7", 1250, "shoe", "i4", position=2**31 - 4),
    # One id for everything.
    *(impression("too large", 1300, "shoe", f"x{n}") for n in range(40)),
    click("too large", 1300, "shoe", "a"),
    # Queries that are numbers, other scripts, emoji only, too long.
    click("r8", 1400, 2024, "a"),
    click("r9", 1401, "東京", "new\nline"),
    click("r10", 1402, "😀", "a"),
    click("r11", 1403, "x" * 1025, "a"),
    click("r12", 1404, True, "a"),
    click("r13", 1405, ["shoe"], "a"),
    # What is broken.
    {"event": "view", "request_id": "r1", "timestamp": 1, "query": "q", "item_id": "a"},
    {"request_id": "r1", "timestamp": 1, "query": "q", "item_id": "a"},
    {"event": "ignore", "request_id": "r1", "timestamp": 1, "query": "q", "item_id": 1},
    impression("", 1, "q", "a"),
    impression("r1", None, "q", "a"),
    impression("r1", "tomorrow", "q", "a"),
    impression("r1", 1e12, "q", "a"),
    impression("r1", 1, "q", "a", position=-1),
    impression("r1", 1, "q", "a", position=1.5),
    impression("r1", 1, "q", ["a"]),
    impression("r1", float("nan"), "q", "a"),
    # Orders of later days: by time these requests are the test split.
    *(
        event
        for n in range(8)
        for event in (
            impression(f"t{n}", 1000 + n * 400, "hat", "7", position=0, user_id="w"),
            impression(f"t{n}", 1000 + n * 400, "hat", "c", position=1, user_id="w"),
            click(f"t{n}", 1001 + n * 400, "hat", f"i{n}", position=2, user_id="w"),
            order(1002 + n * 400, f"i{n}", user_id="w"),
        )
    ),
]


FOR_NASTY_LOGS = {"max_rejected": 1.0, "test_fraction": 0.4, "num_shards": 2}


def write_log(path: Path, rows: list[Any]) -> None:
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    lines[3:3] = [b"", *BAD_LINES, b"  "]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))


def records(folder: Path, stream: str) -> Counter[str]:
    return Counter(str(example) for example in examples(folder, stream))


def examples(folder: Path, stream: str) -> Iterator[tf.train.Example]:
    for path in sorted(folder.glob(f"{stream}-*.tfrecord.gz")):
        for record in tf.data.TFRecordDataset(str(path), "GZIP"):
            yield tf.train.Example.FromString(record.numpy())


def run(program: Callable[[list[str]], int], *args: object) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert program([*map(str, args)]) == 0
    return json.loads(out.getvalue())


def check_same_records(events: Path, items: Path, work: Path, config: Any) -> None:
    (work / "config.json").write_text(json.dumps(config))
    args = ["--events", events, "--items", items, "--config", work / "config.json"]
    ours, theirs = work / "ours", work / "theirs"
    summary = run(beam.preprocess.main, *args, "--output", ours)
    other = run(element_wise.main, *args, "--output", theirs)
    for stream in (*schema.SPLITS, schema.ITEMS):
        expected, found = records(theirs, stream), records(ours, stream)
        assert sum(found.values()) > 2
        assert (found - expected, expected - found) == (Counter(), Counter()), stream
    names = {path.name for path in (theirs / schema.VOCABULARY_DIR).iterdir()}
    assert names == {path.name for path in (ours / schema.VOCABULARY_DIR).iterdir()}
    for name in names:
        expected_bytes = (theirs / schema.VOCABULARY_DIR / name).read_bytes()
        assert (ours / schema.VOCABULARY_DIR / name).read_bytes() == expected_bytes
    assert summary["splits"] == other["splits"]
    assert summary["accounting"] == other["accounting"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "split_by": "query",
            "cart_level": "ordered",
            "event_names": {"view": "click"},
        },
        {"unclicked_below": 0, "max_unclicked": 2, "max_positives": 2, "min_count": 1},
    ],
)
def test_element_wise_pipeline_makes_the_same_records_of_a_nasty_log(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    write_log(tmp_path / "events.jsonl", EVENTS)
    write_log(tmp_path / "items.jsonl", ITEMS)
    limits = {"max_request_items": 35, **FOR_NASTY_LOGS}
    check_same_records(
        tmp_path / "events.jsonl", tmp_path / "items.jsonl", tmp_path, limits | config
    )


@pytest.mark.slow
def test_element_wise_pipeline_makes_the_same_records_of_a_simulated_log(
    simulated_shop: Any, tmp_path: Path
) -> None:
    check_same_records(simulated_shop.events, simulated_shop.items, tmp_path, {})


@pytest.mark.slow
def test_numbers_of_more_than_32_and_64_bits_make_no_difference(tmp_path: Path) -> None:
    events = [
        # The last position plus `unclicked_below`.
        impression("far", 1250, "shoe", "i1", position=2**31 - 1),
        click("far", 1250, "shoe", "i4", position=2**31 - 2),
        # A title, and a query.
        click("big", 1500, "shoe", "big"),
        click("q", 1500, 10**20 + 1, "a"),
    ]
    items = [{"item_id": "big", "title": 123456789012345678901}]
    write_log(tmp_path / "events.jsonl", [*EVENTS, *events])
    write_log(tmp_path / "items.jsonl", [*ITEMS, *items])
    check_same_records(
        tmp_path / "events.jsonl", tmp_path / "items.jsonl", tmp_path, FOR_NASTY_LOGS
    )


def test_polars_program_makes_the_same_levels_and_joins(
    simulated_shop: Any, tmp_path: Path
) -> None:
    events, items = tmp_path / "events-0.jsonl", tmp_path / "items.jsonl"
    events.write_bytes(gzip.decompress(simulated_shop.events.read_bytes()))
    items.write_bytes(gzip.decompress(simulated_shop.items.read_bytes()))
    splits = with_polars.write_tables(
        str(tmp_path / "events-*.jsonl"), items, tmp_path, PreprocessConfig()
    )
    assert splits == schema.Manifest.read(simulated_shop.examples).splits
    for split in schema.SPLITS:
        expected = Counter(map(_request, examples(simulated_shop.examples, split)))
        rows = pl.read_parquet(tmp_path / f"{split}.parquet").iter_rows(named=True)
        found = Counter(map(_row, rows))
        assert (found - expected, expected - found) == (Counter(), Counter())
    catalogue = pl.read_parquet(tmp_path / "items.parquet")
    assert {
        (_strings(example, schema.ITEM_ID)[0], _strings(example, schema.TITLE)[0])
        for example in examples(simulated_shop.examples, schema.ITEMS)
    } == set(catalogue.select("item_id", "title").iter_rows())


def _request(example: tf.train.Example) -> tuple[Any, ...]:
    feature = example.features.feature
    return (
        *_strings(example, schema.QUERY),
        _strings(example, schema.QUERY_POSITIVES),
        _strings(example, schema.ITEM_ID),
        tuple(feature[schema.LEVEL].int64_list.value),
        tuple(feature[schema.POSITION].int64_list.value),
        tuple(feature[schema.LOG_PROBABILITY].float_list.value),
    )


def _strings(example: tf.train.Example, name: str) -> tuple[str, ...]:
    values = example.features.feature[name].bytes_list.value
    return tuple(value.decode("utf-8") for value in values)


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["query"],
        tuple(row["positives"]),
        tuple(row["item_id"]),
        tuple(row["level"]),
        tuple(-1 if position is None else position for position in row["position"]),
        tuple(row["log_probability"]),
    )


def test_a_program_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(CommandError, match=r"with_polars .*exit status 2: .*--events"):
        measure.run("benchmarks.preprocess.with_polars")


def test_peaks_are_of_the_processes_that_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holds_much.py").write_text(HOLDS_MUCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cost, result = measure.run("holds_much")
    assert result == {"held": 3}
    # 30 million bytes here, 200 million in a process that is named like a worker, and an interpreter in each.
    assert 30 < cost.driver_mb < 120
    assert 200 < cost.worker_mb < 290
    assert cost.seconds > 1


HOLDS_MUCH = """
import subprocess, sys, time
held = b"x" * 30_000_000
code = "import time; held = b'x' * {}; time.sleep(1)"
argv = [sys.executable, "-c", code.format(200_000_000), "beam.worker"]
worker = subprocess.Popen(argv)
other = subprocess.Popen([sys.executable, "-c", code.format(400_000_000)])
worker.wait(), other.wait()
print('{"held": 3}')
"""


@pytest.mark.slow
def test_benchmark_measures_every_program_at_every_size(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny = preprocess.Sizes(
        num_requests=300,
        num_items=200,
        scales=(1, 2),
        workers=(2,),
    )
    monkeypatch.setattr(preprocess, "QUICK", tiny)
    assert preprocess.main(["--quick"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert set(result) == {"ratios", "measurements", "machine"}
    measured = result["measurements"]
    assert set(result["ratios"]) == {
        "vs element-wise, 2 workers, 1x",
        "vs polars, 2 workers, 2x",
    }
    theirs = measured["element-wise, 2 workers"]["1x"]["seconds"]
    ours = measured["ours, 2 workers"]["1x"]["seconds"]
    assert result["ratios"]["vs element-wise, 2 workers, 1x"] == pytest.approx(
        theirs / ours, abs=0.01
    )
    num_events = measured["input"]["2x"]["events"]
    assert 2 * 300 * 20 < num_events < 2 * 300 * 30
    for name in ("ours, 2 workers", "polars"):
        row = measured[name]["2x"]
        assert row["events_per_second"] == pytest.approx(
            num_events / row["seconds"], rel=0.01
        )
    # TensorFlow alone takes some hundred megabytes; Polars has no worker.
    assert measured["ours, 2 workers"]["2x"]["worker_mb"] > 200
    assert measured["polars"]["2x"]["worker_mb"] == 0
    growth = measured["ours, 2 workers"]["memory_of_largest_over_smallest_size"]
    assert set(growth) == {"driver", "worker"}


def test_a_run_that_disagrees_is_done_again_and_kept_in_mind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cost = measure.Cost(1.0, 1.0, 1, 1)
    found = iter([1, 2, 1, 1, 1])
    monkeypatch.setattr(
        preprocess, "run", lambda *args: (cost, {"splits": {"train": next(found)}})
    )
    failed: list[str] = []
    run = functools.partial(
        preprocess._run, "ours", output=tmp_path, expected={"train": 2}, failed=failed
    )
    assert run("--flag") == (cost, {"train": 2})
    (said,) = failed
    assert "ours: the splits must hold" in said and "got {'train': 1}" in said
    with pytest.raises(CommandError, match="do not trust either's speed"):
        run()
