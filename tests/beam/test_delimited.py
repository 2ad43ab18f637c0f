"""CSV and TSV with quotes in odd places: no line is swallowed, and each is counted."""

import csv
from pathlib import Path

import pytest

from beam.batches import Section
from beam.sources import read_batches
from tfrs_mmse.cli import CommandError

Row = tuple[int, list[str]]
Bad = tuple[int, str, str]


def read(path: Path) -> tuple[list[Row], list[Bad]]:
    """The good rows with their lines, and the others with reason and text."""
    good: list[Row] = []
    bad: list[Bad] = []
    for batch in read_batches(Section(str(path)), batch_rows=3):
        good += [
            (line, list(batch.rows.fields(n).values()))
            for n, line in enumerate(batch.lines)
        ]
        bad += [(row.line, str(row.reason), row.text) for row in batch.unreadable]
    return good, bad


def test_a_quote_that_nobody_closes_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{n},lamp" for n in range(2, 40)]
    lines[10] = '12,"lamp'
    path.write_text("\n".join(["id,query", *lines]))
    good, bad = read(path)
    assert bad == [(12, "unclosed_quote", '12,"lamp')]
    assert good == [(n, [str(n), "lamp"]) for n in range(2, 40) if n != 12]


def test_a_quote_that_a_later_line_closes_is_no_field_of_many_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,query\n1,"lamp\n2,b\n3,"lamp\n4,d\n')
    good, bad = read(path)
    assert good == [(3, ["2", "b"]), (5, ["4", "d"])]
    assert [line for line, _, _ in bad] == [2, 4]


def test_fields_of_many_lines_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [["1", 'two\nlines "and" quotes'], ["2", "\r\n\n"], ["3", '5" pipe']]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "query"], *rows])
    good, bad = read(path)
    assert [values for _, values in good] == rows and bad == []
    # An odd number of quotes, and the last field has two lines.
    path.write_text('a,b\n5" pipe,"desk\nlamp"\nc,d\n')
    assert read(path) == ([(2, ['5" pipe', "desk\nlamp"]), (4, ["c", "d"])], [])


def test_text_behind_a_closing_quote_belongs_to_the_field(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,query\n1,"best" lamp\n2,b\n')
    assert read(path) == ([(2, ["1", "best lamp"]), (3, ["2", "b"])], [])


def test_in_tsv_a_quote_that_is_not_closed_is_a_letter(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\tquery\n1\t"lamp\n2\t"desk lamp"\n3\t"a\tb\n4\td\n')
    good, bad = read(path)
    assert good == [
        (2, ["1", '"lamp']),
        (3, ["2", "desk lamp"]),
        (5, ["4", "d"]),
    ]
    assert bad == [(4, "unclosed_quote", '3\t"a\tb')]


def test_an_endless_field_is_a_quote_that_nobody_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    line = "x" * (1 << 20) + "\n"
    path.write_text('id,query\n1,"lamp\n' + line * 20 + "2,b\n")
    good, bad = read(path)
    assert good == [(23, ["2", "b"])]
    assert [reason for _, reason, _ in bad] == [
        "unclosed_quote",
        *["wrong_number_of_fields"] * 20,
    ]


def test_a_name_that_two_columns_bear_means_neither(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("item_id,query,item_id\na,lamp,b\n")
    (batch,) = read_batches(Section(str(path)))
    assert batch.rows.fields(0) == {
        "item_id#1": "a",
        "query": "lamp",
        "item_id#2": "b",
    }
    assert batch.rows.column("item_id") == [None]


def test_a_header_with_an_open_quote_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"id,query\n1,lamp\n')
    with pytest.raises(CommandError, match="a quote that is not closed: '\"id,query'"):
        read(path)
