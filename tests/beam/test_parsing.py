"""From files to values and dead letters, with a count of each."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import Rejected, RejectedRow, read_counters
from beam.parsing import ReadLog, WriteDeadLetters, text_value
from beam.sources import Fields


def number_rule(fields: Fields) -> int:
    if "n" not in fields:
        raise RejectedRow(Rejected.MISSING_FIELD)
    return int(fields["n"])


def test_good_rows_keep_their_place_and_bad_ones_become_dead_letters(
    tmp_path: Path,
) -> None:
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")]
    Path(files[0]).write_bytes(b'{"n": 1}\n{"n": \xff}\n{"m": 2}\n')
    Path(files[1]).write_text("n\n5\n")
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    values, rejected = pipeline | ReadLog("events", files, number_rule)
    assert_that(values, equal_to([((0, 1), 1), ((1, 2), 5)]))
    _ = rejected | WriteDeadLetters("events", str(tmp_path / "out"), num_shards=8)
    counts = read_counters(pipeline.run(), ["events"])["events"]
    assert counts == {"read": 4, "rejected_missing_field": 1, "rejected_not_utf8": 1}
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == "rejected-events-00000-of-00008.jsonl"
    assert [json.loads(line) for line in written.read_text().splitlines()] == [
        {"source": f"{files[0]}:2", "reason": "not_utf8", "row": '{"n": \\xff}'},
        {"source": f"{files[0]}:3", "reason": "missing_field", "row": '{"m": 2}'},
    ]


def test_a_mistake_in_a_rule_stops_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": "one"}\n')
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    parsed = pipeline | ReadLog("events", [str(tmp_path / "a.jsonl")], number_rule)
    _ = parsed.values | beam.Map(str)
    with pytest.raises(ValueError, match="invalid literal"):
        pipeline.run()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (42, "42"),
        (1.5, "1.5"),
        (float("nan"), ""),
        (True, "true"),
        (["a", 1, None], "a 1 "),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert text_value(value, Rejected.BAD_TEXT) == text
