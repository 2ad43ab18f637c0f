"""JSONL, CSV, TSV and Parquet as batches of rows, each row with its line."""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Fields, Section, Unreadable
from tfrs_mmse.cli import CommandError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 8 << 20  # bytes of lines, or about as many of rows, in a batch
_MAX_CSV_FIELD = 16 << 20  # a longer one is a quote that nobody closed


class _JsonRows(NamedTuple):
    objects: list[dict[str, Any]]
    lines: list[bytes]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.objects]

    def fields(self, index: int) -> Fields:
        # orjson is quick, and rounds whole numbers of more than 64 bits.
        return json_fields(self.lines[index])

    def text(self, index: int) -> str:
        return _json_text(self.lines[index])


def read_jsonl(file: BinaryIO, section: Section, batch_rows: int) -> Iterator[Batch]:
    number = 1
    for index in itertools.count():
        if not (lines := file.readlines(min(_BLOCK, batch_rows * 256))):
            return
        if index == 0:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        if index % section.num_sections == section.number:
            yield _json_batch(lines, number)
        number += len(lines)


def _json_batch(lines: list[bytes], first: int) -> Batch:
    numbers, objects, kept = [], [], []
    unreadable = []
    for number, line in enumerate(lines, first):
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
                unreadable.append(Unreadable(number, e.reason, _json_text(line)))
                continue
        numbers.append(number)
        objects.append(value)
        kept.append(line)
    return Batch(numbers, _JsonRows(objects, kept), unreadable)


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


def _json_text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")


class _CsvRows(NamedTuple):
    header: dict[str, int]
    values: list[list[str]]
    texts: list[str]

    def column(self, name: str) -> list[Any]:
        index = self.header.get(name)
        if index is None:
            return [None] * len(self.values)
        return [row[index] for row in self.values]

    def fields(self, index: int) -> Fields:
        return {name: self.values[index][n] for name, n in self.header.items()}

    def text(self, index: int) -> str:
        return self.texts[index].rstrip("\r\n")


class _Lines:
    """The lines of a CSV file as the parser takes them, remembering those of the current row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = io.TextIOWrapper(
            file, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.number += 1
            self._taken.append(line)
            yield line

    def take(self) -> list[str]:
        taken, self._taken = self._taken, []
        return taken


def read_csv(file: BinaryIO, section: Section, batch_rows: int) -> Iterator[Batch]:
    plain = section.path.removesuffix(".gz")
    (delimiter,) = (
        mark for ending, mark in _DELIMITERS.items() if plain.endswith(ending)
    )
    lines = _Lines(file)
    csv.field_size_limit(
        _MAX_CSV_FIELD
    )  # the module's own is for all readers of a process
    rows = csv.reader(lines, delimiter=delimiter)
    header = next(rows, [])
    if any(map(_is_not_utf8, header)):
        raise CommandError(
            f"the header of {section.path} is not UTF-8; convert the file (iconv -f latin1 -t utf-8)"
        )
    lines.take()
    columns = {name: index for index, name in enumerate(header)}
    for index in itertools.count():
        numbers: list[int] = []
        kept = _CsvRows(columns, [], [])
        unreadable: list[Unreadable] = []
        size = 0
        while size < _BLOCK and len(numbers) + len(unreadable) < batch_rows:
            if (values := next(rows, None)) is None:
                break
            taken = lines.take()
            if not values:
                continue
            text = taken[0] if len(taken) == 1 else "".join(taken)
            number = lines.number - len(taken) + 1
            size += len(text)
            if _is_not_utf8(text):
                unreadable.append(
                    Unreadable(number, Rejected.NOT_UTF8, _csv_text(text))
                )
            elif _is_unclosed(values, text):
                unreadable.append(
                    Unreadable(number, Rejected.UNCLOSED_QUOTE, _csv_text(text))
                )
            elif len(values) != len(header):
                unreadable.append(
                    Unreadable(number, Rejected.WRONG_NUMBER_OF_FIELDS, _csv_text(text))
                )
            else:
                numbers.append(number)
                kept.values.append(values)
                kept.texts.append(text)
        if not numbers and not unreadable:
            return
        if index % section.num_sections == section.number:
            yield Batch(numbers, kept, unreadable)


def _is_not_utf8(text: str) -> bool:
    """Whether it holds bytes that could not be decoded, which stand in it as lone surrogates."""
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def _is_unclosed(values: list[str], text: str) -> bool:
    """Whether the file ended inside a quote, which may have swallowed many lines."""
    return "\n" in values[-1] and text.count('"') % 2 == 1


def _csv_text(text: str) -> str:
    raw = text.rstrip("\r\n").encode("utf-8", errors="surrogateescape")
    return raw.decode("utf-8", errors="backslashreplace")


class _ParquetRows(NamedTuple):
    batch: pa.RecordBatch

    def column(self, name: str) -> list[Any]:
        index = self.batch.schema.get_field_index(name)
        if index < 0:
            return [None] * self.batch.num_rows
        return _values(self.batch.column(index))

    def fields(self, index: int) -> Fields:
        row = self.batch.slice(index, 1)
        return {
            name: _values(row.column(n))[0] for n, name in enumerate(row.schema.names)
        }

    def text(self, index: int) -> str:
        return json.dumps(self.fields(index), default=_shown, ensure_ascii=False)


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        # A file whose writer did not check its strings: the rules of values see the bytes, and reject them.
        return column.cast(pa.binary()).to_pylist()


def _shown(value: Any) -> str:
    return (
        value.decode("utf-8", errors="backslashreplace")
        if isinstance(value, bytes)
        else str(value)
    )


def read_parquet(file: BinaryIO, section: Section, batch_rows: int) -> Iterator[Batch]:
    # Parquet is read from its end, which a gzip stream can reach only by unpacking the whole file.
    seekable = io.BytesIO(file.read()) if section.path.endswith(".gz") else file
    parquet = pq.ParquetFile(seekable)
    number = 1
    for group in range(parquet.num_row_groups):
        if group % section.num_sections == section.number:
            first = number
            for batch in parquet.iter_batches(
                batch_size=batch_rows, row_groups=[group]
            ):
                lines = range(first, first + batch.num_rows)
                yield Batch(lines, _ParquetRows(batch), [])
                first += batch.num_rows
        number += parquet.metadata.row_group(group).num_rows
