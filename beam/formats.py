"""CSV, TSV and Parquet as batches of rows, each row with its line."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam.accounting import Rejected
from beam.batches import Batch, Column, Fields, Section, Unreadable
from tfrs_mmse.cli import CommandError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 8 << 20  # about as many bytes of rows in a batch
_MAX_CSV_FIELD = 16 << 20  # a longer one is a quote that nobody closed


class _CsvRows(NamedTuple):
    header: dict[str, int]
    values: list[list[str]]
    texts: list[str]

    def column(self, name: str) -> Column:
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

    def column(self, name: str) -> Column:
        index = self.batch.schema.get_field_index(name)
        if index < 0:
            return [None] * self.batch.num_rows
        column = self.batch.column(index)
        return column if _is_simple(column) else _values(column)

    def fields(self, index: int) -> Fields:
        row = self.batch.slice(index, 1)
        return {
            name: _values(row.column(n))[0] for n, name in enumerate(row.schema.names)
        }

    def text(self, index: int) -> str:
        return json.dumps(self.fields(index), default=_shown, ensure_ascii=False)


def _is_simple(column: pa.Array) -> bool:
    """Whether it holds values that are the same in Arrow and in Python."""
    is_of = pa.types
    if is_of.is_string(column.type) or is_of.is_large_string(column.type):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:  # not UTF-8
            return False
        return True
    return is_of.is_integer(column.type) or is_of.is_float64(column.type)


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
