"""Reading: every format gives the same rows, and a broken file is one sentence that names it."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam.accounting import RejectedRow
from beam.sources import match_files, read_head, read_rows
from tfrs_mmse.cli import CommandError

ROWS = [{"item_id": "1", "title": "Ação"}, {"item_id": "2", "title": 'a "b", c'}]
JSONL = (
    '{"item_id": "1", "title": "Ação"}\n\n{"item_id": "2", "title": "a \\"b\\", c"}\n'
)
CSV = 'item_id,title\r\n1,Ação\r\n\r\n2,"a ""b"", c"\r\n'
TSV = 'item_id\ttitle\n1\tAção\n2\t"a ""b"", c"\n'


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", JSONL), ("a.json", JSONL), ("a.csv", CSV), ("a.tsv", TSV)],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_text_format_gives_the_same_rows(
    tmp_path: Path, name: str, text: str, ending: str, mark: bytes
) -> None:
    path = tmp_path / (name + ending)
    data = mark + text.encode()
    path.write_bytes(gzip.compress(data) if ending else data)
    assert [dict(row.fields()) for row in read_rows(str(path))] == ROWS


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_parquet_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    if ending:
        (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    rows = list(read_rows(str(path) + ending))
    assert [row.fields() for row in rows] == ROWS
    assert [row.line for row in rows] == [1, 2]
    assert rows[0].text() == '{"item_id": "1", "title": "Ação"}'


def test_a_row_knows_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('item_id,title\n1,"two\nlines"\n2,one\n')
    assert [row.line for row in read_rows(str(path))] == [2, 4]
    path = tmp_path / "a.jsonl"
    path.write_text(JSONL)
    assert [row.line for row in read_rows(str(path))] == [1, 3]


@pytest.mark.parametrize(
    ("name", "data", "reason", "text"),
    [
        (
            "a.jsonl",
            b'{"title": "A\xe7\xe3o"}\n',
            "not_utf8",
            '{"title": "A\\xe7\\xe3o"}',
        ),
        ("a.jsonl", b'{"title": \n', "not_json", '{"title": '),
        ("a.jsonl", b"[" * 100_000, "not_json", "[" * 100_000),
        ("a.jsonl", b"[1]\n", "not_an_object", "[1]"),
        ("a.csv", b"item_id,title\n1,A\xe7\xe3o\n", "not_utf8", "1,A\\xe7\\xe3o"),
        ("a.csv", b"item_id,title\n1,a,b\n", "wrong_number_of_fields", "1,a,b"),
        ("a.csv", b"item_id,title\n1\n", "wrong_number_of_fields", "1"),
    ],
)
def test_a_bad_row_has_a_reason_and_its_text(
    tmp_path: Path, name: str, data: bytes, reason: str, text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    (row,) = read_rows(str(path))
    with pytest.raises(RejectedRow, match=f"^{reason}$"):
        row.fields()
    assert row.text() == text


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.jsonl.gz",
            gzip.compress(JSONL.encode() * 100)[:-20],
            "a.jsonl.gz is not a whole gzip file",
        ),
        ("a.jsonl.gz", b"", "a.jsonl.gz is not a whole gzip file .it holds no bytes"),
        (
            "a.jsonl.gz",
            JSONL.encode(),
            "a.jsonl.gz is not a whole gzip file .Not a gzipped file",
        ),
        (
            "a.parquet",
            b"PAR1 and then nothing",
            "a.parquet is not a whole Parquet file",
        ),
        (
            "a.csv",
            b'item_id,title\n1,"' + b"x" * 200_000,
            "a.csv is not valid CSV .*a quote that is not closed",
        ),
        ("a.csv", b"item_id,T\xedtulo\n1,a\n", "the header of .*a.csv is not UTF-8"),
    ],
)
def test_a_broken_file_is_named(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CommandError, match=message):
        list(read_rows(str(path)))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*gone.jsonl: "):
        list(read_rows(str(tmp_path / "gone.jsonl")))


def test_files_come_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv"):
        (tmp_path / name).write_text("")
    found = match_files([f"{tmp_path}/*", f"{tmp_path}/a.*"], source="items")
    assert found == [f"{tmp_path}/a.csv", f"{tmp_path}/b.jsonl"]


def test_patterns_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(CommandError, match=r"a.xlsx ends in none of .jsonl, .json"):
        match_files([f"{tmp_path}/a.xlsx"], source="items")
    with pytest.raises(
        CommandError, match=r"expected events in .*none.jsonl, but no file matches"
    ):
        match_files([f"{tmp_path}/none.jsonl"], source="events")
    with pytest.raises(
        CommandError, match=r"cannot look for events in nosuchscheme://a.jsonl"
    ):
        match_files(["nosuchscheme://a.jsonl"], source="events")


def test_the_head_is_that_of_the_first_file_with_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text("oops\n" + JSONL)
    files = [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]
    assert read_head(files, source="items") == (files[1], ROWS)
    with pytest.raises(
        CommandError, match=r"expected items, but .*a.jsonl holds no rows"
    ):
        read_head(files[:1], source="items")


def test_a_file_of_another_format_is_told_at_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(CSV)
    with pytest.raises(
        CommandError, match=r"no row that can be read as jsonl: line 1 is not_json"
    ):
        read_head([f"{tmp_path}/a.jsonl"], source="items")
