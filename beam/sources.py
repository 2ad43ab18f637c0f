"""The files of a source: which there are, what stands in their first rows, and all their rows, batch by batch."""

import codecs
import contextlib
import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam.batches import Batch, Fields, Section, Unreadable
from beam.delimited import read_delimited
from beam.jsonl import read_jsonl
from beam.parquet import read_parquet
from tfrs_mmse.cli import CommandError

_FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_GZIP = b"\x1f\x8b"
_HEAD_ROWS = 1000
_BATCH_ROWS = 32_768


def match_files(patterns: Sequence[str], *, source: str) -> dict[str, int]:
    """The files that the patterns match, sorted, with their sizes in bytes.

    Raises:
        CommandError: a pattern matches nothing, or a file is of no format that we read.
    """
    files: dict[str, int] = {}
    for pattern in patterns:
        try:
            found = FileSystems.match([pattern])[0].metadata_list
        except (BeamIOError, ValueError) as e:
            raise CommandError(f"cannot look for {source} in {pattern}: {e}") from None
        if not found and Path(pattern).is_file():  # its name looks like a pattern
            files[pattern] = Path(pattern).stat().st_size
        elif not found:
            raise CommandError(
                f"expected {source} in {pattern}, but no file matches; check the path"
            )
        files.update(
            (_plain(metadata.path), metadata.size_in_bytes) for metadata in found
        )
    for path in files:
        _format(path)
    return dict(sorted(files.items()))


def _plain(path: str) -> str:
    """`a.csv` and `./a.csv` are one file, and must not count twice."""
    return path if FileSystems.get_scheme(path) else os.path.normpath(path)


def read_head(files: Sequence[str], *, source: str) -> tuple[str, list[Fields]]:
    """The first readable rows of the first file that has any, to learn the columns from.

    Returns:
        That file and the values of up to 1,000 rows.

    Raises:
        CommandError: all files are empty, or the first rows cannot be read.
    """
    for path in files:
        unreadable: list[Unreadable] = []
        for batch in itertools.islice(
            read_batches(Section(path), batch_rows=_HEAD_ROWS), 1
        ):
            unreadable = batch.unreadable
            if batch.lines:
                return path, [
                    batch.rows.fields(n)
                    for n in range(min(len(batch.lines), _HEAD_ROWS))
                ]
        if unreadable:
            raise CommandError(
                f"{path} has no row that can be read as {_format(path)}: line {unreadable[0].line} is "
                f"{unreadable[0].reason}; give the file the ending of its format (.jsonl, .csv, .tsv, .parquet) and "
                "UTF-8 text"
            )
    shown = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    raise CommandError(f"expected {source}, but {shown} holds no rows")


def read_batches(
    section: Section,
    *,
    batch_rows: int = _BATCH_ROWS,
    columns: Mapping[str, bool] | None = None,
) -> Iterator[Batch]:
    """Reads a section of a file, by the format that its name ends in, as a stream.

    Args:
        section: What to read.
        batch_rows: Rows of a batch at most.
        columns: All columns that will be asked for, and whether 1 and 1.0 mean the same in them; helps with JSON.

    Raises:
        CommandError: the file cannot be opened, or is broken: a truncated gzip, no Parquet, an endless CSV field.
    """
    path = section.path
    with _named_failures(path), _open(path) as file:
        match _format(path):
            case "jsonl":
                yield from read_jsonl(file, section, batch_rows, columns or {})
            case "csv":
                yield from read_delimited(file, section, batch_rows)
            case "parquet":
                yield from read_parquet(file, section, batch_rows)


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
        start = raw.read(2)
        raw.seek(0)
        if not path.endswith(".gz"):
            if start == _GZIP:
                raise CommandError(
                    f"{path} is a gzip file: give it a name that ends in .gz"
                )
            _check_start(path, start)
            yield raw
        elif start:
            if start != _GZIP:
                raise CommandError(
                    f"{path} is not a gzip file: give it a name without .gz, or copy it here again"
                )
            with gzip.GzipFile(fileobj=raw) as unzipped:
                file = io.BufferedReader(unzipped, 1 << 20)  # type: ignore[arg-type]
                _check_start(path, file.peek(2)[:2])
                yield file  # type: ignore[misc]
        else:
            raise EOFError("it holds no bytes at all")


def _check_start(path: str, start: bytes) -> None:
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise CommandError(f"{path} is UTF-16; convert it (iconv -f utf-16 -t utf-8)")


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
    except (OSError, BeamIOError) as e:
        raise CommandError(f"cannot read {path}: {_first_line(e)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
