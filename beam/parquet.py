"""Parquet as batches of rows, each with its number."""

import decimal
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam.batches import Batch, Column, Fields, Section, told_apart


class _Rows(NamedTuple):
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
    if pa.types.is_timestamp(column.type) and column.type.tz:
        # Python takes the two moments of a repeated hour of autumn for equal; in UTC no hour is repeated.
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        # A file whose writer did not check its strings: the rules of values see the bytes, and reject them.
        return column.cast(pa.binary()).to_pylist()
    except (ValueError, OverflowError):  # moments and dates that Python cannot hold
        values = [_value(value) for value in column]
    if pa.types.is_decimal(column.type):
        return [_number(value) for value in values]
    return values


def _value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return f"{value.type} out of range"


def _number(value: decimal.Decimal | None) -> int | float | None:
    """What the same number is in CSV and JSON."""
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


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
    names = told_apart(parquet.schema_arrow.names)
    number = 1
    for group in range(parquet.num_row_groups):
        if group % section.num_sections == section.number:
            first = number
            for batch in parquet.iter_batches(
                batch_size=batch_rows, row_groups=[group]
            ):
                lines = range(first, first + batch.num_rows)
                yield Batch(lines, _Rows(batch.rename_columns(names)), [])
                first += batch.num_rows
        number += parquet.metadata.row_group(group).num_rows
