"""Reading: every format gives the same rows, and a broken file is one sentence that names it."""

import decimal
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam.batches import Batch, Section
from beam.sources import match_files, read_batches, read_head
from tests.beam.tables import listed
from tfrs_mmse.cli import CommandError

ROWS = [{"item_id": "1", "title": "Ação"}, {"item_id": "2", "title": 'a "b", c'}]
JSONL = (
    '{"item_id": "1", "title": "Ação"}\n\n{"item_id": "2", "title": "a \\"b\\", c"}\n'
)
CSV = 'item_id,title\r\n1,Ação\r\n\r\n2,"a ""b"", c"\r\n'
TSV = 'item_id\ttitle\n1\tAção\n2\t"a ""b"", c"\n'


def read_one(path: Path) -> Batch:
    (batch,) = read_batches(Section(str(path)))
    return batch


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
    batch = read_one(path)
    assert [dict(batch.rows.fields(n)) for n in range(2)] == ROWS
    assert listed(batch.rows.column("title")) == [row["title"] for row in ROWS]
    assert listed(batch.rows.column("none")) == [None, None]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_parquet_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    if ending:
        (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(path.read_bytes()))
    batch = read_one(Path(f"{path}{ending}"))
    assert [batch.rows.fields(n) for n in range(2)] == ROWS
    assert listed(batch.rows.column("title")) == [row["title"] for row in ROWS]
    assert listed(batch.rows.column("none")) == [None, None]
    assert list(batch.lines) == [1, 2]
    assert batch.rows.text(0) == '{"item_id": "1", "title": "Ação"}'


def test_strings_in_parquet_that_are_not_utf8_are_bytes(tmp_path: Path) -> None:
    broken = pa.array([b"a", b"A\xe7\xe3o"]).view(pa.string())
    pq.write_table(pa.table({"title": broken}), tmp_path / "a.parquet")
    batch = read_one(tmp_path / "a.parquet")
    assert listed(batch.rows.column("title")) == [b"a", b"A\xe7\xe3o"]
    assert batch.rows.fields(1) == {"title": b"A\xe7\xe3o"}
    assert batch.rows.text(1) == '{"title": "A\\\\xe7\\\\xe3o"}'


def test_the_row_groups_of_parquet_are_its_sections(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(10)}), path, row_group_size=3)
    found = {}
    for index in range(2):
        for batch in read_batches(Section(str(path), index, 2), batch_rows=2):
            found.update(zip(batch.lines, listed(batch.rows.column("n")), strict=True))
    assert found == {n + 1: n for n in range(10)}


def test_a_row_knows_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('item_id,title\n1,"two\nlines"\n2,one\n')
    assert read_one(path).lines == [2, 4]
    path = tmp_path / "a.jsonl"
    path.write_text(JSONL)
    assert read_one(path).lines == [1, 3]


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
        ("a.csv", b'item_id,title\n1,"a\n', "unclosed_quote", '1,"a'),
    ],
)
def test_a_bad_row_has_a_reason_and_its_text(
    tmp_path: Path, name: str, data: bytes, reason: str, text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    batch = read_one(path)
    assert list(batch.lines) == []
    assert [(row.reason, row.text) for row in batch.unreadable] == [(reason, text)]


def test_a_stray_quote_is_a_letter_like_others(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('item_id,title\n1,27" monitor\n2,a "b" c\n3,"two\nlines"\n')
    assert listed(read_one(path).rows.column("title")) == [
        '27" monitor',
        'a "b" c',
        "two\nlines",
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.jsonl.gz",
            gzip.compress(JSONL.encode() * 100, mtime=0)[:-20],
            "a.jsonl.gz is not a whole gzip file",
        ),
        ("a.jsonl.gz", b"", "a.jsonl.gz is not a whole gzip file .it holds no bytes"),
        (
            "a.jsonl.gz",
            JSONL.encode(),
            "a.jsonl.gz is not a gzip file: give it a name without .gz",
        ),
        (
            "a.jsonl",
            gzip.compress(JSONL.encode(), mtime=0),
            "is a gzip file: give it a name",
        ),
        ("a.csv", CSV.encode("utf-16"), "a.csv is UTF-16; convert it"),
        (
            "a.csv.gz",
            gzip.compress(CSV.encode("utf-16"), mtime=0),
            "a.csv.gz is UTF-16",
        ),
        ("a.json", b'[{"item_id": 1}, {"item_id": 2}]\n', "a.json is a JSON array"),
        (
            "a.json",
            b' [\n  {"item_id": 1},\n  {"item_id": 2}\n]\n',
            "a.json is a JSON array; write one object a line",
        ),
        (
            "a.parquet",
            b"PAR1 and then nothing",
            "a.parquet is not a whole Parquet file",
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
        list(read_batches(Section(str(path))))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*gone.jsonl: "):
        list(read_batches(Section(str(tmp_path / "gone.jsonl"))))


def test_files_come_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv"):
        (tmp_path / name).write_text("")
    found = match_files([f"{tmp_path}/*", f"{tmp_path}/a.*"], source="items")
    assert list(found.items()) == [(f"{tmp_path}/a.csv", 0), (f"{tmp_path}/b.jsonl", 0)]


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


def test_a_file_is_read_once_and_may_be_called_like_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log[1].csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(CSV)
    assert list(match_files(["a.csv", "./a.csv"], source="items")) == ["a.csv"]
    assert list(match_files(["log[1].csv"], source="items")) == ["log[1].csv"]


def test_parquet_means_what_the_same_values_mean_elsewhere(tmp_path: Path) -> None:
    night = [1729989000, 1729992600]  # 2:30 in Berlin, twice
    table = pa.table(
        {
            "moment": pa.array(night, pa.timestamp("s", "Europe/Berlin")),
            "id": pa.array([decimal.Decimal(7), None], pa.decimal128(38, 0)),
            "price": pa.array([decimal.Decimal("1.5"), decimal.Decimal(2)]),
            "until": pa.array([2**53, 0], pa.timestamp("s")),
            "day": pa.array([0, 2**30], pa.date32()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (batch,) = read_batches(Section(str(tmp_path / "a.parquet")))
    moments = [moment.timestamp() for moment in batch.rows.column("moment")]
    assert moments == night
    assert batch.rows.column("id") == [7, None]
    assert batch.rows.column("price") == [1.5, 2]
    assert batch.rows.column("until")[0] == "timestamp[ms] out of range"
    assert batch.rows.column("day")[1] == "date32[day] out of range"
    assert batch.rows.fields(0)["id"] == 7 and "out of range" in batch.rows.text(0)


def test_a_name_that_two_columns_of_parquet_bear_means_neither(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    pq.write_table(table, tmp_path / "a.parquet")
    (batch,) = read_batches(Section(str(tmp_path / "a.parquet")))
    assert batch.rows.fields(0) == {"id#1": 1, "id#2": 2}
