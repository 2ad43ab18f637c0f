"""Some rows of a file, in the form that its format gives, and the section of the file that they are from."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from beam.accounting import Rejected

Fields = Mapping[str, Any]
Column: TypeAlias = list[Any] | pa.Array


def told_apart(names: Sequence[str]) -> list[str]:
    """Names of columns, each once: of several `id`, none is meant by `id`, but one by `id#1`, one by `id#2`, ..."""
    counts = collections.Counter(names)
    seen: collections.Counter[str] = collections.Counter()
    seen_names = []
    for name in names:
        seen[name] += 1
        seen_names.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return seen_names


class Section(NamedTuple):
    """A share of a file: of its batches number `number`, `number + num_sections`, and so on.

    Whoever reads a section still unpacks the whole file, which is quick, and parses its own share only. So all of a
    large file's rows keep their line numbers, also where it can only be read from its beginning.
    """

    path: str
    number: int = 0
    num_sections: int = 1


class Unreadable(NamedTuple):
    """A row that has no fields: its line, the reason, and its text for a person."""

    line: int
    reason: Rejected
    text: str


class _Rows(Protocol):
    """The readable rows of a batch, in the form that their format gives."""

    def column(self, name: str) -> Column: ...
    def fields(self, index: int) -> Fields: ...
    def text(self, index: int) -> str: ...


class Batch(NamedTuple):
    """Some rows of a file.

    Attributes:
        lines: The number of each readable row's (first) line from 1, the header's included; of the row in Parquet.
        rows: `column(name)` are the values of a column, None where a row lacks it; `fields(n)` are all values of the
            n-th row, exactly as they were written; `text(n)` is that row for a person.
        unreadable: The other rows.
    """

    lines: Sequence[int]
    rows: _Rows
    unreadable: list[Unreadable]
