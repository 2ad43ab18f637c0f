"""Titles of items by id, from a catalogue file."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

_TITLE = "title"
_MAX_FIELD = 1 << 17  # a longer one is a quote that nobody closed


def read_titles(path: Path, item_ids: Collection[str]) -> dict[str, str]:
    """Looks up the titles of a few items.

    Args:
        path: JSONL, CSV or Parquet with the columns `item_id` and `title`, by its suffix; `.gz` after it is fine.
        item_ids: Whose titles are wanted.

    Returns:
        Titles by id; ids that are not in the file are left out.

    Raises:
        CommandError: another suffix, no such columns, or a file that is not what its suffix says.
    """
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[-2:-1] if packed else suffixes[-1:]) or [""]
    readers = {
        ".jsonl": _read_jsonl,
        ".json": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if kind[0] not in readers:
        raise CommandError(
            f"--items takes a .jsonl, .csv or .parquet file (or one of them .gz), got {path.name}"
        )
    wanted = set(item_ids)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            rows = readers[kind[0]](file, path)
            return {item_id: title for item_id, title in rows if item_id in wanted}
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise CommandError(f"{path} is not a whole gzip file ({e})") from None
    except UnicodeDecodeError as e:
        raise CommandError(f"{path} is not UTF-8 ({e})") from None
    except csv.Error as e:
        raise CommandError(f"{path} is not a CSV file ({e})") from None


def _read_jsonl(file: Any, path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            raise CommandError(f"{path} line {number} is not JSON ({e})") from None
        if not isinstance(row, dict) or not {schema.ITEM_ID, _TITLE} <= row.keys():
            raise CommandError(
                f"{path} line {number} has no {schema.ITEM_ID} and {_TITLE}"
            )
        yield str(row[schema.ITEM_ID]), str(row[_TITLE])


def _read_csv(file: Any, path: Path) -> Iterator[tuple[str, str]]:
    csv.field_size_limit(_MAX_FIELD)  # the module's own is for all readers of a process
    reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    _require_columns(reader.fieldnames or [], path)
    for row in reader:
        yield row[schema.ITEM_ID], row[_TITLE] or ""


def _read_parquet(file: Any, path: Path) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(file.read()))
    except pa.ArrowInvalid as e:
        raise CommandError(f"{path} is not a Parquet file ({e})") from None
    _require_columns(table.schema_arrow.names, path)
    for batch in table.iter_batches(columns=[schema.ITEM_ID, _TITLE]):
        for row in batch.to_pylist():
            yield str(row[schema.ITEM_ID]), str(row[_TITLE])


def _require_columns(names: Collection[Any], path: Path) -> None:
    if not {schema.ITEM_ID, _TITLE} <= set(names):
        raise CommandError(
            f"{path} must have the columns {schema.ITEM_ID} and {_TITLE}, it has {', '.join(names)}"
        )
