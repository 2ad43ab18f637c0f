"""CSV and TSV as batches of rows, each row with its line.

A quote that is never closed would swallow all lines up to the next one, or to the end of the file. So the parser is a
strict one, and where it stumbles over more than one line, the first of them is a row by itself, good or broken, and
the others are read anew.
"""

import collections
import csv
import io
import itertools
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from beam.accounting import Rejected
from beam.batches import Batch, Column, Fields, Section, Unreadable, told_apart
from tfrs_mmse.cli import CommandError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 8 << 20  # about as many bytes of rows in a batch
_MAX_FIELD = 16 << 20  # a longer one is a quote that nobody closed


class _Row(NamedTuple):
    """A row of the file.

    Attributes:
        line: Its first line.
        text: All of its lines.
        values: None where a quote of it is not closed.
    """

    line: int
    text: str
    values: list[str] | None


class _Rows(NamedTuple):
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
    """The lines of a file as the parser takes them; those of the current row can be given back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = io.TextIOWrapper(
            file, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._returned: collections.deque[str] = collections.deque()
        self._taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._file)
        self.number += 1
        self._taken.append(line)
        return line

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self._taken = self._taken, []
        return taken

    def give_back(self, lines: list[str]) -> None:
        """Lets the last of the lines come again."""
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def read_delimited(
    file: BinaryIO, section: Section, batch_rows: int
) -> Iterator[Batch]:
    """Reads a section of a file whose first row names the columns.

    Raises:
        CommandError: the header cannot be read.
    """
    plain = section.path.removesuffix(".gz")
    (delimiter,) = (
        mark for ending, mark in _DELIMITERS.items() if plain.endswith(ending)
    )
    # The module's own limit is for all readers of a process.
    csv.field_size_limit(_MAX_FIELD)
    rows = _rows(_Lines(file), delimiter)
    first = next(rows, _Row(1, "", []))
    if first.values is None or any(map(_is_not_utf8, first.values)):
        raise CommandError(
            f"the header of {section.path} is not UTF-8, or has a quote that is not closed: {_shown(first.text)!r}; "
            "convert the file (iconv -f latin1 -t utf-8)"
        )
    width = len(first.values)
    header = {name: n for n, name in enumerate(told_apart(first.values))}
    for index in itertools.count():
        numbers: list[int] = []
        kept = _Rows(header, [], [])
        unreadable: list[Unreadable] = []
        size = 0
        while size < _BLOCK and len(numbers) + len(unreadable) < batch_rows:
            if (row := next(rows, None)) is None:
                break
            if row.values == []:
                continue
            size += len(row.text)
            if reason := _reason(row, width):
                unreadable.append(Unreadable(row.line, reason, _shown(row.text)))
            else:
                numbers.append(row.line)
                kept.values.append(row.values or [])
                kept.texts.append(row.text)
        if not numbers and not unreadable:
            return
        if index % section.num_sections == section.number:
            yield Batch(numbers, kept, unreadable)


def _rows(lines: _Lines, delimiter: str) -> Iterator[_Row]:
    strict = csv.reader(lines, delimiter=delimiter, strict=True)
    num_fields = 0
    while True:
        try:
            values: list[str] | None = next(strict)
        except StopIteration:
            return
        except csv.Error:
            first, *others = lines.take()
            lines.give_back(others)
            values = _of_line(first, delimiter, num_fields)
            yield _Row(lines.number, first, values)
            continue
        num_fields = num_fields or len(values or [])  # those of the header
        taken = lines.take()
        text = taken[0] if len(taken) == 1 else "".join(taken)
        yield _Row(lines.number - len(taken) + 1, text, values)


def _of_line(line: str, delimiter: str, num_fields: int) -> list[str] | None:
    """The fields of a line that is not written by the rules; None where a quote of it is not closed.

    Text behind a closing quote belongs to the field. In TSV, a quote that is not closed is a letter if that makes as
    many fields as there should be: many programs write TSV without any quoting.
    """
    ahead = iter([line, "\n"])
    values = next(csv.reader(ahead, delimiter=delimiter))
    if next(ahead, None) is not None:
        return values
    if delimiter == "\t":
        plain = next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE))
        return plain if len(plain) == num_fields else None
    return None


def _reason(row: _Row, width: int) -> Rejected | None:
    if _is_not_utf8(row.text):
        return Rejected.NOT_UTF8
    if row.values is None:
        return Rejected.UNCLOSED_QUOTE
    return None if len(row.values) == width else Rejected.WRONG_NUMBER_OF_FIELDS


def _is_not_utf8(text: str) -> bool:
    """Whether it holds bytes that could not be decoded, which stand in it as lone surrogates."""
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def _shown(text: str) -> str:
    raw = text.rstrip("\r\n").encode("utf-8", errors="surrogateescape")
    return raw.decode("utf-8", errors="backslashreplace")
