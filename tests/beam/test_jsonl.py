"""JSON Lines: whichever way a block is read, its rows are the same."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam.batches import Batch, Section
from beam.config import PreprocessConfig
from beam.event_layout import event_layout
from beam.events import parse_events
from beam.sources import read_batches
from tests.beam.tables import listed

COLUMNS = {"id": False, "n": True}
GOOD = '{"id": "a", "n": 1}'
ODD = [
    GOOD,
    '  {"id": "a", "n": 1}  ',
    "",
    '{"id": 5, "n": 1}',
    '{"id": 5.0, "n": 1}',
    '{"id": "a", "n": 1.0}',
    '{"id": "a", "n": 9007199254740993}',
    '{"id": "a", "n": 123456789012345678901234567890}',
    '{"id": "a", "n": 1e999}',
    '{"id": "a", "n": NaN}',
    '{"id": "a", "n": "1"}',
    '{"id": "a", "n": true}',
    '{"id": "a", "n": null}',
    '{"id": "a"}',
    "{}",
    '{"id": "a", "n": 1, "id": "b"}',
    '{"id": "a", "n": 1, "x": {"y": [1, "z"]}}',
    '{"id": ["a"], "n": 1}',
    '{"id": "\\ud800", "n": 1}',
    '{"id": "a\\u0000b", "n": 1}',
    '{"id": "A\udce7\udce3o", "n": 1}',  # bytes that are not UTF-8
    '{"id": "Ação 北京", "n": 1}',
    '{"id": "a", "n": 1} {"id": "b", "n": 2}',
    '{"id": "a", "n": 1',
    "[1]",
    "nonsense",
]


def blocks(path: Path, *lines: str, **flags: Any) -> list[Batch]:
    """What is read of a file of two blocks: one of good lines, and one of these."""
    fill = [
        GOOD + " " * 236
    ] * 3  # 512 bytes, which batch_rows=2 asks for, and the line after them
    text = "\n".join([*fill, *lines])
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return list(read_batches(Section(str(path)), batch_rows=2, **flags))


def rows(batches: list[Batch]) -> tuple[list[Any], list[Any]]:
    """Each row of these batches, and each row that cannot be read."""
    good = [
        (line, batch.rows.fields(n), batch.rows.text(n), *values)
        for batch in batches
        for n, (line, *values) in enumerate(
            zip(
                batch.lines,
                *(listed(batch.rows.column(name)) for name in COLUMNS),
                strict=True,
            )
        )
    ]
    return good, [row for batch in batches for row in batch.unreadable]


def test_a_block_of_the_same_types_is_read_in_columns(tmp_path: Path) -> None:
    first, second = blocks(tmp_path / "a.jsonl", GOOD, GOOD, columns=COLUMNS)
    assert isinstance(first.rows.column("id"), list)
    assert isinstance(second.rows.column("id"), pa.Array)
    assert list(second.lines) == [4, 5]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_changes_nothing_for_any_row(tmp_path: Path, odd: str) -> None:
    lines = [GOOD, odd, '{"id": "z", "n": 7}']
    expected = rows(blocks(tmp_path / "a.jsonl", *lines))
    found = rows(blocks(tmp_path / "a.jsonl", *lines, columns=COLUMNS))
    assert repr(found) == repr(expected)  # NaN is not equal to itself


def test_two_rows_of_a_line_do_not_make_up_for_an_empty_one(tmp_path: Path) -> None:
    lines = [GOOD, GOOD + GOOD, "", GOOD]
    _, unreadable = rows(blocks(tmp_path / "a.jsonl", *lines, columns=COLUMNS))
    assert [(row.line, row.reason) for row in unreadable] == [(5, "not_json")]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [({"n": True}, "[5.0]"), ({"n": False}, "[5]"), ({"n": True, "id": False}, "[5]")],
)
def test_an_integer_among_floats_stays_one_unless_that_is_the_same(
    tmp_path: Path, columns: dict[str, bool], shown: str
) -> None:
    fill = '{"id": 1.5, "n": 1.5}' + " " * 300
    path = tmp_path / "a.jsonl"
    path.write_text(f'{fill}\n{fill}\n{{"id": 5, "n": 5}}\n')
    *_, last = read_batches(Section(str(path)), batch_rows=2, columns=columns)
    assert repr(listed(last.rows.column("n"))) == shown


@pytest.mark.parametrize("moment", [1.7e9, 1_700_000_000, "2023-11-14T22:13:20Z"])
@pytest.mark.parametrize("name", ["e.jsonl", "w.jsonl"])
def test_events_are_the_same_in_columns_and_line_by_line(
    tmp_path: Path, moment: object, name: str
) -> None:
    def event(n: int, **values: object) -> dict[str, object]:
        kind = {"event": "click"} if name == "e.jsonl" else {"clicked": n % 2}
        own = {"request_id": f"r{n % 7}", "query": f"red shoe {n % 5}", "item_id": n}
        return {**kind, **own, "timestamp": moment, "position": n % 3, **values}

    events = [event(n) for n in range(400)]
    for n, odd in enumerate((None, "", "  ", -1, 1e30, True, "-1", [1], "\ud800")):
        for place, column in enumerate(events[0]):
            events.append(event(500 + 10 * n + place, **{column: odd}))
            events += [event(1000)] * 3
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in events))
    layout = event_layout(events[:1], PreprocessConfig(), path=str(path))

    def parsed(**flags: Any) -> tuple[list[Any], list[Any], bool]:
        batches = list(read_batches(Section(str(path)), batch_rows=2, **flags))
        results = [(batch, parse_events(batch, layout)) for batch in batches]
        table = [row for _, result in results for row in result.table.rows()]
        rejected = [
            (batch.lines[n], reason)
            for batch, result in results
            for n, reason in result.rejected
        ]
        is_typed = any(
            isinstance(batch.rows.column("query"), pa.Array) for batch in batches
        )
        return sorted(table), sorted(rejected), is_typed

    *expected, is_typed = parsed()
    assert not is_typed
    *found, is_typed = parsed(columns=layout.read_columns())
    assert is_typed
    assert found == expected
    assert len(expected[0]) > 400 and len(expected[1]) > 20
