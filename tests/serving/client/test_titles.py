"""Titles from catalogue files of every kind."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.client.titles import read_titles
from tfrs_mmse.cli import CommandError

ROWS = [
    {"item_id": "a", "title": "Tea, green"},
    {"item_id": "b", "title": 'The "best" cup'},
    {"item_id": "7", "title": "茶"},
]


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join([*(json.dumps(row) for row in ROWS), "", ""]))


def write_csv(path: Path) -> None:
    path.write_text(
        'title,price,item_id\n"Tea, green",1,a\n"The ""best"" cup",,b\n茶,3,7\n'
    )


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".jsonl", write_jsonl), (".csv", write_csv), (".parquet", write_parquet)],
)
def test_every_format_gives_the_titles_asked_for(
    tmp_path: Path, suffix: str, write: object, packed: bool
) -> None:
    path = tmp_path / f"my.items{suffix}"
    write(path)  # type: ignore[operator]
    if packed:
        whole = path.read_bytes()
        path = path.with_suffix(f"{suffix}.gz")
        path.write_bytes(gzip.compress(whole))
    assert read_titles(path, ["a", "7", "unknown"]) == {"a": "Tea, green", "7": "茶"}
    assert read_titles(path, ["b"]) == {"b": 'The "best" cup'}


def test_numbers_as_ids_are_text(tmp_path: Path) -> None:
    (tmp_path / "i.jsonl").write_text('{"item_id": 7, "title": "tea"}\n')
    assert read_titles(tmp_path / "i.jsonl", ["7"]) == {"7": "tea"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "items.txt",
            b"",
            r"--items takes a \.jsonl, \.csv or \.parquet file \(or one of them \.gz\), got items\.txt",
        ),
        ("items", b"", r"got items$"),
        (
            "i.jsonl",
            b'{"item_id": "a", "title": "x"}\n{oops\n',
            r"i\.jsonl line 2 is not JSON",
        ),
        ("i.jsonl", b'{"item_id": "a"}\n', r"i\.jsonl line 1 has no item_id and title"),
        ("i.jsonl", b"[1]\n", r"i\.jsonl line 1 has no item_id and title"),
        (
            "i.csv",
            b"id,title\n1,x\n",
            r"must have the columns item_id and title, it has id, title",
        ),
        ("i.csv", b"item_id,title\n1,\xff\n", r"i\.csv is not UTF-8"),
        ("i.parquet", b"not parquet", r"i\.parquet is not a Parquet file"),
        ("i.csv.gz", b"item_id,title\n", r"i\.csv\.gz is not a whole gzip file"),
        (
            "i.csv",
            b"item_id,title\n" + b"x" * 200_000,
            r"i\.csv is not a CSV file \(field larger than field limit",
        ),
        (
            "i.csv.gz",
            gzip.compress(b"item_id,title\n", mtime=0)[:-9],
            r"i\.csv\.gz is not a whole gzip file",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=message):
        read_titles(tmp_path / name, ["a"])
