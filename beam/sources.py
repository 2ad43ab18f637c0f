"""Reading logs: JSONL, CSV, TSV and Parquet, plain or gzip, row by row, each row with its place."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam.accounting import Rejected, RejectedRow
from tfrs_mmse.cli import CommandError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_HEAD_ROWS = 1000

Fields = Mapping[str, Any]


class CsvLine(NamedTuple):
    """A CSV row: its text, and its fields or None when there are more or fewer than the header says."""

    text: str
    fields: dict[str, str] | None


class Row(NamedTuple):
    """One row as it was read.

    Attributes:
        line: Number of its (first) line from 1, the header's included; of the row in Parquet.
        content: The line's bytes (JSONL), the CSV row, or the values by column (Parquet).
    """

    line: int
    content: bytes | CsvLine | dict[str, Any]

    def fields(self) -> Fields:
        """The row's values by column.

        Raises:
            RejectedRow: it is not UTF-8, or not a JSON object, or has more or fewer fields than the CSV header.
        """
        match self.content:
            case bytes():
                return _json_fields(self.content)
            case CsvLine(text, fields):
                if not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text):
                    raise RejectedRow(Rejected.NOT_UTF8)
                if fields is None:
                    raise RejectedRow(Rejected.WRONG_NUMBER_OF_FIELDS)
                return fields
            case _:
                return self.content

    def text(self) -> str:
        """The row for a person, with backslash escapes for bytes that are not UTF-8."""
        match self.content:
            case bytes():
                return self.content.rstrip(b"\r\n").decode(
                    "utf-8", errors="backslashreplace"
                )
            case CsvLine(text, _):
                raw = text.rstrip("\r\n").encode("utf-8", errors="surrogateescape")
                return raw.decode("utf-8", errors="backslashreplace")
            case _:
                return json.dumps(self.content, default=str, ensure_ascii=False)


def match_files(patterns: Sequence[str], *, source: str) -> list[str]:
    """The files that the patterns match, sorted.

    Raises:
        CommandError: a pattern matches nothing, or a file is of no format that we read.
    """
    files: set[str] = set()
    for pattern in patterns:
        try:
            found = [
                metadata.path
                for metadata in FileSystems.match([pattern])[0].metadata_list
            ]
        except (BeamIOError, ValueError) as e:
            raise CommandError(f"cannot look for {source} in {pattern}: {e}") from None
        if not found:
            raise CommandError(
                f"expected {source} in {pattern}, but no file matches; check the path"
            )
        files.update(found)
    for path in files:
        _format(path)
    return sorted(files)


def read_head(files: Sequence[str], *, source: str) -> tuple[str, list[Fields]]:
    """The first readable rows of the first file that has any, to learn the columns from.

    Returns:
        That file and the values of up to 1,000 rows.

    Raises:
        CommandError: all files are empty, or the first rows cannot be read.
    """
    for path in files:
        rows: list[Fields] = []
        rejected = None
        for row in itertools.islice(read_rows(path), _HEAD_ROWS):
            try:
                rows.append(row.fields())
            except RejectedRow as e:
                rejected = rejected or (row.line, e.reason)
        if rows:
            return path, rows
        if rejected:
            raise CommandError(
                f"{path} has no row that can be read as {_format(path)}: line {rejected[0]} is {rejected[1]}; "
                "give the file the ending of its format (.jsonl, .csv, .tsv, .parquet) and UTF-8 text"
            )
    shown = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    raise CommandError(f"expected {source}, but {shown} holds no rows")


def read_rows(path: str) -> Iterator[Row]:
    """Reads one file, by the format that its name ends in, as a stream.

    Raises:
        CommandError: the file cannot be opened, or is broken: a truncated gzip, no Parquet, an endless CSV field.
    """
    kind = _format(path)
    with _named_failures(path), _open(path) as file:
        if kind == "parquet":
            yield from _read_parquet(file, path)
        elif kind == "csv":
            yield from _read_csv(file, path)
        else:
            yield from _read_lines(file)


def _format(path: str) -> str:
    plain = path.removesuffix(".gz")
    for ending, kind in _FORMATS.items():
        if plain.endswith(ending):
            return kind
    raise CommandError(
        f"{path} ends in none of {', '.join(_FORMATS)} (or one of them with .gz): rename it"
    )


@contextlib.contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    # Not Beam's own decompression, which takes a truncated gzip for a whole one.
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        if not path.endswith(".gz"):
            yield raw
        elif raw.read(1):
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield io.BufferedReader(unzipped)  # type: ignore[arg-type, misc]
        else:
            raise EOFError("it holds no bytes at all")


@contextlib.contextmanager
def _named_failures(path: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise CommandError(
            f"{path} is not a whole gzip file ({e}); copy it here again"
        ) from None
    except pa.ArrowException as e:
        raise CommandError(
            f"{path} is not a whole Parquet file ({_first_line(e)}); copy it here again"
        ) from None
    except csv.Error as e:
        raise CommandError(
            f"{path} is not valid CSV ({e}); look for a quote that is not closed"
        ) from None
    except (OSError, BeamIOError) as e:
        raise CommandError(f"cannot read {path}: {_first_line(e)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _read_lines(file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.isspace():
            yield Row(number, line)


def _json_fields(line: bytes) -> Fields:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RejectedRow(Rejected.NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise RejectedRow(Rejected.NOT_JSON) from None
    if not isinstance(values, dict):
        raise RejectedRow(Rejected.NOT_AN_OBJECT)
    return values


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


def _read_csv(file: BinaryIO, path: str) -> Iterator[Row]:
    delimiter = next(
        mark
        for ending, mark in _DELIMITERS.items()
        if path.removesuffix(".gz").endswith(ending)
    )
    lines = _Lines(file)
    rows = csv.reader(lines, delimiter=delimiter)
    header = next(rows, [])
    if any("\udc80" <= c <= "\udcff" for name in header for c in name):
        raise CommandError(
            f"the header of {path} is not UTF-8; convert the file (iconv -f latin1 -t utf-8)"
        )
    lines.take()
    for values in rows:
        taken = lines.take()
        if values:
            fields = (
                dict(zip(header, values, strict=True))
                if len(values) == len(header)
                else None
            )
            yield Row(lines.number - len(taken) + 1, CsvLine("".join(taken), fields))


def _read_parquet(file: BinaryIO, path: str) -> Iterator[Row]:
    # Parquet is read from its end, which a gzip stream can reach only by unpacking the whole file.
    seekable = io.BytesIO(file.read()) if path.endswith(".gz") else file
    number = 0
    for batch in pq.ParquetFile(seekable).iter_batches(batch_size=1024):
        for values in batch.to_pylist():
            number += 1
            yield Row(number, values)
