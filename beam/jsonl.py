"""JSON Lines as batches of rows: quickly while the values have the types that they began with, else line by line."""

import codecs
import functools
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.json

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Column, Fields, Section, Unreadable
from tfrs_mmse.cli import CommandError

_BLOCK = 2 << 20  # bytes of lines in a batch: they stay in the cache of a core
# Of the first block of a section, which only shows what types are to be expected.
_FIRST_BLOCK = 1 << 18
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

Types = dict[str, pa.DataType]


def read_jsonl(
    file: BinaryIO, section: Section, batch_rows: int, columns: Mapping[str, bool]
) -> Iterator[Batch]:
    """Reads a section of a file.

    Args:
        file: The file.
        section: Which share of it is wanted.
        batch_rows: About how many rows a batch holds at most.
        columns: All that `column` will be asked for, and whether 1 and 1.0 mean the same in it; none, if that is not
            known, which takes longer.
    """
    number = 1
    types: Types | None = None
    for index in itertools.count():
        size = _BLOCK if index >= section.num_sections else _FIRST_BLOCK
        block = file.read(min(size, batch_rows * 256))
        block += file.readline()
        if not block:
            return
        if index == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
            _check_lines(block, section.path)
        if index % section.num_sections == section.number:
            batch = _typed_batch(block, number, types) if types else None
            if batch is None:
                rows, batch = _batch_by_line(block, number)
                types = _types(rows, columns)
            yield batch
        number += _num_lines(block)


def _check_lines(block: bytes, path: str) -> None:
    """Refuses a file that is one JSON array: as a line of its own it would be one broken row."""
    first, _, rest = block.strip().partition(b"\n")
    first = first.strip()
    if first == b"[" or (not rest and re.match(rb"\[\s*\{", first)):
        raise CommandError(
            f"{path} is a JSON array; write one object a line (jq -c '.[]')"
        )


def _num_lines(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


class _ObjectRows(NamedTuple):
    objects: list[dict[str, Any]]
    lines: list[bytes]

    def column(self, name: str) -> Column:
        return [row.get(name) for row in self.objects]

    def fields(self, index: int) -> Fields:
        # orjson is quick, and rounds whole numbers of more than 64 bits.
        return json_fields(self.lines[index])

    def text(self, index: int) -> str:
        return _text(self.lines[index])


def _batch_by_line(block: bytes, first: int) -> tuple[_ObjectRows, Batch]:
    numbers, objects, kept = [], [], []
    unreadable = []
    for number, line in enumerate(io.BytesIO(block), first):
        try:
            value = orjson.loads(line)
            if type(value) is not dict:
                raise RejectedRow(Rejected.NOT_AN_OBJECT)
        except (ValueError, RejectedRow):
            if line.isspace():
                continue
            try:
                value = json_fields(line)
            except RejectedRow as e:
                unreadable.append(Unreadable(number, e.reason, _text(line)))
                continue
        numbers.append(number)
        objects.append(value)
        kept.append(line)
    rows = _ObjectRows(objects, kept)
    return rows, Batch(numbers, rows, unreadable)


def _types(rows: _ObjectRows, columns: Mapping[str, bool]) -> Types | None:
    """The type of each column; None if there are several in one, for then only its lines tell what was written."""
    types = {}
    for name, is_number in columns.items():
        found = {type(value) for value in rows.column(name)} - {type(None)}
        if is_number and float in found:
            found.discard(int)
        elif float in found:
            return None  # a later integer would be taken for a float
        if len(found) > 1 or not found <= _TYPES.keys():
            return None
        types[name] = _TYPES[found.pop()] if found else pa.null()
    return types


class _TypedRows:
    """Rows whose values have known types, in columns."""

    def __init__(self, table: pa.Table, block: bytes) -> None:
        self._table, self._block = table, block

    @functools.cached_property
    def _lines(self) -> list[bytes]:
        return io.BytesIO(self._block).readlines()

    def column(self, name: str) -> Column:
        return self._table.column(name).combine_chunks()

    def fields(self, index: int) -> Fields:
        return json_fields(self._lines[index])

    def text(self, index: int) -> str:
        return _text(self._lines[index])


def _typed_batch(block: bytes, first: int, types: Types) -> Batch | None:
    """A batch of rows that have these types, None where that is not certain of every line."""
    num_lines = _num_lines(block)
    if not block.startswith(b"{") or block.count(b"\n{") != num_lines - 1:
        return None  # Arrow does not care where a line ends
    try:
        if not block.isascii():
            block.decode("utf-8")
        table = pa.json.read_json(
            pa.BufferReader(block),
            pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pa.json.ParseOptions(
                explicit_schema=pa.schema(types), unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if table.num_rows != num_lines:
        return None
    return Batch(range(first, first + num_lines), _TypedRows(table, block), [])


def json_fields(line: bytes) -> dict[str, Any]:
    """The object that a line holds, its numbers exactly as they were written.

    Raises:
        RejectedRow: it is not UTF-8, not JSON, or no object.
    """
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RejectedRow(Rejected.NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise RejectedRow(Rejected.NOT_JSON) from None
    if not isinstance(values, dict):
        raise RejectedRow(Rejected.NOT_AN_OBJECT)
    return values


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")
