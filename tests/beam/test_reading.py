"""From files to tables and dead letters, with a count of each row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam import reading
from beam.accounting import Rejected, RejectedRow, read_counters
from beam.batches import Batch, Section
from beam.parsing import Parsed, parse_batch
from beam.reading import ReadLog, plain_size, sections
from beam.values import each


def number_rule(fields: Any) -> tuple[int]:
    if fields.get("n") is None:
        raise RejectedRow(Rejected.MISSING_FIELD)
    return (int(fields["n"]),)


def parse(batch: Batch) -> Parsed:
    values = {
        "n": each(
            lambda value: None if value is None else int(value), batch.rows.column("n")
        )
    }
    return parse_batch(batch, values, {"n": pl.Int64}, pl.lit(True), number_rule)


def route(table: pl.DataFrame, file: int) -> Iterator[Any]:
    yield beam.pvalue.TaggedOutput("rows", [(file, *row) for row in table.rows()])


def read(
    files: list[Path], output: Path, expected: list[Any], *, redact: bool = False
) -> dict[str, int]:
    """The counters of reading these files; their good rows, as (file, n, line), must be as expected."""
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    sizes = {str(path): path.stat().st_size for path in files}
    log = pipeline | ReadLog(
        "events",
        sizes,
        columns={"n": False},
        parse=parse,
        route=route,
        tags=["rows"],
        output=str(output),
        redact=redact,
    )
    rows = log.rows | beam.FlatMap(lambda part: part)
    assert_that(rows, equal_to(expected))
    return read_counters(pipeline.run(), ["events"])["events"]


@pytest.mark.parametrize("redact", [False, True])
def test_good_rows_keep_their_place_and_bad_ones_become_dead_letters(
    tmp_path: Path, redact: bool
) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.csv"]
    files[0].write_bytes(b'{"n": 1}\n{"n": \xff}\n{"m": 2}\n')
    files[1].write_text("n\n5\n")
    counts = read(files, tmp_path / "out", [(0, 1, 1), (1, 5, 2)], redact=redact)
    assert counts == {"read": 4, "rejected_missing_field": 1, "rejected_not_utf8": 1}
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "rejected-events-00000-of-00002.jsonl"
    letters = [
        {"source": f"{files[0]}:2", "reason": "not_utf8", "row": '{"n": \\xff}'},
        {"source": f"{files[0]}:3", "reason": "missing_field", "row": '{"m": 2}'},
    ]
    if redact:
        letters = [
            {name: value for name, value in letter.items() if name != "row"}
            for letter in letters
        ]
    assert [json.loads(line) for line in written.read_text().splitlines()] == letters


def test_a_large_file_is_read_in_sections_and_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_SECTION_BYTES", 1000)
    monkeypatch.setattr("beam.jsonl._BLOCK", 100)
    monkeypatch.setattr("beam.jsonl._FIRST_BLOCK", 50)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' if n % 10 else "{\n" for n in range(500)))
    expected = [(0, n, n + 1) for n in range(500) if n % 10]
    counts = read([path], tmp_path / "out", expected)
    assert counts == {"read": 500, "rejected_not_json": 50}
    num_sections = 1 + path.stat().st_size // 1000
    letters = sorted((tmp_path / "out").iterdir())
    assert len(letters) == num_sections > 3
    lines = [
        int(json.loads(line)["source"].split(":")[1])
        for file in letters
        for line in file.open()
    ]
    assert sorted(lines) == list(range(1, 501, 10))


def test_sections_go_by_the_size_of_what_is_unpacked() -> None:
    mega = 1 << 20
    assert sections({"a.jsonl": 63 * mega, "b.jsonl": 64 * mega}) == [
        Section("a.jsonl", 0, 1),
        Section("b.jsonl", 0, 2),
        Section("b.jsonl", 1, 2),
    ]
    assert len(sections({"a.csv.gz": 8 * mega})) == 2
    assert len(sections({"a.jsonl": 1 << 50})) == 64
    assert plain_size({"a.jsonl": 5, "b.parquet": 2}) == 21


def test_a_mistake_in_a_rule_stops_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": "one"}\n')
    with pytest.raises(ValueError, match="invalid literal"):
        read([tmp_path / "a.jsonl"], tmp_path / "out", [])
