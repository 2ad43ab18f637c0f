"""Thousands of broken rows and files: nothing crashes, every row is accounted for, and each class has its reason."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam.preprocess import main
from tfrs_mmse.schema import Manifest

NUM = 3000
Row = dict[str, Any]
Mutation = Callable[[Row], Row | bytes]


def event(n: int) -> Row:
    kind = ("impression", "click", "order")[n % 3]
    query = f"shoe {n // 3 % 50}"
    return {"event": kind, "request_id": f"r{n // 3}", "timestamp": n, "query": query, "item_id": f"i{n % 7}",
            "position": n % 3, "user_id": "u"}  # fmt: skip


def item(n: int) -> Row:
    return {
        "item_id": f"i{n}",
        "title": f"Red shoe {n}",
        "brand": "Acme",
        "price": 10 + n,
    }


def line(row: Row) -> bytes:
    return json.dumps(row).encode()


# What is done to a row, and the reason that it must be rejected for; "" where it is taken all the same.
EVENT_MUTATIONS: list[tuple[str, Mutation]] = [
    ("not_json", lambda row: line(row)[:-9]),
    ("not_json", lambda row: line(row) + b"}"),
    ("not_json", lambda row: b"\x00" + line(row)),
    ("not_json", lambda row: b"[" * 5000),
    ("not_utf8", lambda row: line(row).replace(b"shoe", b"bot\xe3o")),
    (
        "not_utf8",
        lambda row: json.dumps(row).encode("utf-16-le").replace(b"\n", b"") + b"\xff",
    ),
    ("not_utf8", lambda row: line({**row, "query": "\ud83d"})),
    ("not_an_object", lambda row: b"[1, 2]"),
    ("not_an_object", lambda row: b'"click"'),
    ("not_an_object", lambda row: b"null"),
    ("missing_field", lambda row: {**row, "event": None}),
    ("missing_field", lambda row: {**row, "item_id": ""}),
    ("missing_field", lambda row: {**row, "timestamp": None}),
    ("missing_field", lambda row: {**row, "event": "click", "request_id": None}),
    ("missing_field", lambda row: {**row, "event": "impression", "query": None}),
    ("unknown_event", lambda row: {**row, "event": "explode"}),
    ("unknown_event", lambda row: {**row, "event": {"a": []}}),
    ("bad_request_id", lambda row: {**row, "request_id": [1]}),
    ("bad_item_id", lambda row: {**row, "item_id": 1.5}),
    ("bad_user_id", lambda row: {**row, "user_id": {"id": 1}}),
    ("bad_timestamp", lambda row: {**row, "timestamp": "tomorrow"}),
    ("bad_timestamp", lambda row: {**row, "timestamp": -5}),
    ("bad_timestamp", lambda row: {**row, "timestamp": 1.7e12}),
    ("bad_timestamp", lambda row: {**row, "timestamp": math.nan}),
    ("bad_position", lambda row: {**row, "position": -1}),
    ("bad_position", lambda row: {**row, "position": 0.5}),
    ("bad_position", lambda row: {**row, "position": "top"}),
    ("bad_query", lambda row: {**row, "query": ["a"]}),
    ("empty_query", lambda row: {**row, "query": "?!"}),
    ("query_too_long", lambda row: {**row, "query": "x" * 2000}),
    ("query_too_long", lambda row: {**row, "query": "y" * 1_000_000}),
    ("", lambda row: {**row, "position": None}),
    ("", lambda row: {**row, "position": float("nan")}),
    ("", lambda row: {**row, "timestamp": "2020-01-01T00:00:00Z"}),
    ("", lambda row: {**row, "timestamp": 4e9}),  # the year 2096
    ("", lambda row: {**row, "query": "shoe \x00 red"}),
    ("", lambda row: {**row, "request_id": 10**30}),
    ("", lambda row: {**row, "extra": {"deep": [1, {"er": None}]}}),
    ("", lambda row: line(row) + b"   \r"),
]
ITEM_MUTATIONS: list[tuple[str, Mutation]] = [
    ("missing_field", lambda row: {**row, "item_id": None}),
    ("bad_item_id", lambda row: {**row, "item_id": False}),
    ("empty_title", lambda row: {**row, "title": "\u3000\n"}),
    ("bad_text", lambda row: {**row, "title": {"en": "shoe"}}),
    ("bad_text", lambda row: {**row, "brand": [{}]}),
    ("bad_number", lambda row: {**row, "price": "cheap"}),
    ("bad_number", lambda row: {**row, "price": 1e300}),
    (
        "bad_number",
        lambda row: line({**row, "price": 0}).replace(
            b'"price": 0', b'"price": Infinity'
        ),
    ),
    ("", lambda row: line({**row, "price": 0}).replace(b'"price": 0', b'"price": NaN')),
    ("", lambda row: {**row, "title": "shoe " * 200_000}),
    ("", lambda row: {**row, "title": "shoe\x00red", "brand": ["A", 1, None]}),
    ("", lambda row: {**row, "brand": "\u202e<script>"}),
]


def mutated(
    rows: list[Row], mutations: list[tuple[str, Mutation]], seed: int
) -> tuple[list[bytes], Counter[str]]:
    """The lines, a fifth of them mutated, and how often each reason must be found."""
    rng = np.random.default_rng(seed)
    expected: Counter[str] = Counter()
    lines = []
    for number, row in enumerate(rows):
        # First each mutation once, every second row; then at random, a fifth of the rows.
        first = number < 2 * len(mutations)
        if number % 2 if first else rng.random() < 0.8:
            lines.append(line(row))
            continue
        reason, mutation = mutations[
            number // 2 if first else rng.integers(len(mutations))
        ]
        changed = mutation(row)
        lines.append(changed if isinstance(changed, bytes) else line(changed))
        expected[reason] += 1
    del expected[""]
    return lines, expected


def rejected(counts: dict[str, int]) -> Counter[str]:
    return Counter(
        {
            name.removeprefix("rejected_"): n
            for name, n in counts.items()
            if name.startswith("rejected_")
        }
    )


def run(tmp_path: Path, *flags: str) -> int:
    argv = [
        "--items",
        str(tmp_path / "items.jsonl"),
        "--output",
        str(tmp_path / "out"),
        "--max-rejected",
        "1",
    ]
    return main([*argv, "--split-by", "query", *flags])


def write_items(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(b"\n".join(line(item(n)) for n in range(7)))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_mutated_row_is_accounted_for_with_its_reason(
    tmp_path: Path, seed: int
) -> None:
    events, bad_events = mutated([event(n) for n in range(NUM)], EVENT_MUTATIONS, seed)
    items, bad_items = mutated(
        [item(n % 500) for n in range(1000)], ITEM_MUTATIONS, seed
    )
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(b"\n".join(events)))
    (tmp_path / "items.jsonl").write_bytes(b"\n".join(items))
    assert run(tmp_path, "--events", str(tmp_path / "events.jsonl.gz")) == 0
    accounting = Manifest.read(tmp_path / "out").accounting
    for source, lines, expected in (
        ("events", events, bad_events),
        ("items", items, bad_items),
    ):
        counts = accounting[source]
        assert rejected(counts) == expected
        assert (
            counts["read"]
            == len(lines)
            == sum(n for name, n in counts.items() if name != "read")
        )
    letters = [
        json.loads(letter)
        for path in (tmp_path / "out").glob("rejected-*")
        for letter in path.read_text().splitlines()
    ]
    assert Counter(letter["reason"] for letter in letters) == bad_events + bad_items
    # A letter says where its row stood.
    where = {
        (letter["source"].rpartition(":")[0], int(letter["source"].rpartition(":")[2]))
        for letter in letters
    }
    assert len(where) == len(letters)


def test_mutated_csv_rows_have_their_reasons(tmp_path: Path) -> None:
    write_items(tmp_path)
    good = [",".join(map(str, event(n).values())) for n in range(300)]
    broken = {
        "wrong_number_of_fields": ["a,b", good[0] + ",more"],
        "not_utf8": [good[1].replace("shoe", "bot\udce3o")],
        "unknown_event": ["exp\x00lode" + good[2].removeprefix("impression")],
        "bad_position": [good[3].removesuffix("0,u") + "-4,u"],
        "query_too_long": [good[4].replace("shoe 1", '"' + "x\n" * 9000 + '"')],
        "unclosed_quote": ['click,"r1,1,shoe'],
    }
    # Whatever follows a quote that nobody closed is read anew.
    rows = [*(row for rows in broken.values() for row in rows), *good]
    text = "\n".join([",".join(event(0)), *rows]) + "\n"
    (tmp_path / "e.csv").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    assert run(tmp_path, "--events", str(tmp_path / "e.csv")) == 0
    counts = Manifest.read(tmp_path / "out").accounting["events"]
    assert rejected(counts) == Counter(
        {reason: len(rows) for reason, rows in broken.items()}
    )
    assert counts["read"] == len(rows)


def test_parquet_with_odd_types_has_its_reasons(tmp_path: Path) -> None:
    write_items(tmp_path)
    rows = [event(n) for n in range(300)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    queries = [query.encode() for query in columns["query"][:-1]]
    broken = pa.array([*queries, b"bot\xe3o"]).view(pa.string())
    moments = pa.array(
        [n * 1_000_000_001 for n in range(300)], pa.timestamp("ns", "UTC")
    )
    positions = pa.array([float("nan"), -2.0, *map(float, range(298))])
    table = pa.table(
        {**columns, "query": broken, "timestamp": moments, "position": positions}
    )
    pq.write_table(table, tmp_path / "e.parquet")
    assert run(tmp_path, "--events", str(tmp_path / "e.parquet")) == 0
    counts = Manifest.read(tmp_path / "out").accounting["events"]
    assert rejected(counts) == {"not_utf8": 1, "bad_position": 1}


def test_a_truncated_or_foreign_file_fails_with_its_name_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_items(tmp_path)
    whole = b"\n".join(line(event(n)) for n in range(NUM))
    zipped = gzip.compress(whole)
    pq.write_table(
        pa.Table.from_pylist([event(n) for n in range(NUM)]), tmp_path / "whole.parquet"
    )
    parquet = (tmp_path / "whole.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for name, data in (("e.jsonl.gz", zipped), ("e.parquet", parquet)):
        for end in rng.integers(1, len(data) - 1, size=4):
            (tmp_path / name).write_bytes(data[:end])
            assert run(tmp_path, "--events", str(tmp_path / name)) == 1
            (sentence,) = [
                text
                for text in capfd.readouterr().err.splitlines()
                if text.startswith("error: ")
            ]
            assert name in sentence and "Traceback" not in sentence
            assert not list((tmp_path / "out").glob("*.*"))
