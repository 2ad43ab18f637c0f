"""Reads the files of a source into tables, and keeps every row that cannot be used, with its place and the reason."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.typehints import no_annotations

from beam import progress
from beam.accounting import READ, Rejected, count
from beam.batches import Batch, Section
from beam.parsing import Parsed
from beam.shards import shard_name, write_text
from beam.sources import read_batches

_SECTION_BYTES = 64 << 20
_MAX_SECTIONS = 64  # of a file: whoever reads one unpacks all of it
_PART_ROWS = 500_000  # of the tables that are sent on


def sections(files: Mapping[str, int]) -> list[Section]:
    """Cuts files into sections that several workers can parse at a time: path -> size in bytes."""
    return [
        Section(path, index, num_sections)
        for path, size in files.items()
        for num_sections in (
            min(_MAX_SECTIONS, 1 + _plain_size(path, size) // _SECTION_BYTES),
        )
        for index in range(num_sections)
    ]


def plain_size(files: Mapping[str, int]) -> int:
    """About how many bytes the files hold when they are unpacked."""
    return sum(_plain_size(path, size) for path, size in files.items())


def _plain_size(path: str, size: int) -> int:
    return size * 8 if path.endswith((".gz", ".parquet")) else size


class ReadLog(beam.PTransform):
    """Reads the files of one source. Counters: `read`, `rejected_<reason>`."""

    def __init__(
        self,
        source: str,
        files: Mapping[str, int],
        *,
        parse: Callable[[Batch], Parsed],
        route: Callable[[pl.DataFrame, int], Iterator[Any]],
        tags: Sequence[str],
        output: str,
        redact: bool,
        columns: Mapping[str, bool] | None = None,
    ) -> None:
        """Args:
        source: `events` or `items`, the namespace of the counters.
        files: Path -> size.
        parse: Makes a table of a batch's good rows.
        route: Gives what is sent on of a table of some hundred thousand good rows of the file with that number.
        tags: The outputs that `route` may name.
        output: The directory for the rejected rows, `rejected-SOURCE-*.jsonl`; no rows, no file.
        redact: Leaves the rows themselves out of these: only their places and reasons.
        columns: All that `parse` takes of a row, as `sources.read_batches` wants to know it.
        """
        super().__init__()
        self._sections = sections(files)
        numbers = {path: number for number, path in enumerate(files)}
        self._tags = tags
        letters = DeadLetters(source, output, len(self._sections), redact)
        self._fn = _ReadFn(source, numbers, columns, parse, route, letters)

    @no_annotations
    def expand(self, root: beam.Pipeline) -> Any:
        return (
            root
            | "ListSections" >> beam.Create(list(enumerate(self._sections)))
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(self._fn).with_outputs(*self._tags)
        )


class DeadLetters:
    """Writes the rejected rows of each section, in its order: where they stood, why, and what they were."""

    def __init__(
        self, source: str, output: str, num_sections: int, redact: bool
    ) -> None:
        self._source, self._output = source, output
        self._num_sections, self._redact = num_sections, redact

    def write(
        self, number: int, path: str, rejected: list[tuple[int, Rejected, str]]
    ) -> None:
        """Writes those of section `number` of the run: (line, reason, row)."""
        letters = []
        for line, reason, row in sorted(rejected):
            letter = {"source": f"{path}:{line}", "reason": reason}
            letters.append(
                json.dumps(letter if self._redact else {**letter, "row": row})
            )
        if letters:
            name = shard_name(
                f"rejected-{self._source}", number, self._num_sections, ".jsonl"
            )
            write_text(
                f"{self._output}/{name}", "".join(f"{letter}\n" for letter in letters)
            )


class _ReadFn(beam.DoFn):
    def __init__(
        self,
        source: str,
        numbers: Mapping[str, int],
        columns: Mapping[str, bool] | None,
        parse: Callable[[Batch], Parsed],
        route: Callable[[pl.DataFrame, int], Iterator[Any]],
        letters: DeadLetters,
    ) -> None:
        super().__init__()
        self._source, self._numbers = source, numbers
        self._columns, self._parse = columns, parse
        self._route, self._letters = route, letters

    def process(self, element: tuple[int, Section]) -> Iterator[Any]:
        number, section = element
        rejected: list[tuple[int, Rejected, str]] = []
        tables: list[pl.DataFrame] = []
        for batch in read_batches(section, columns=self._columns):
            parsed = self._parse(batch)
            bad: list[tuple[int, Rejected, str]] = [*batch.unreadable]
            bad += [
                (batch.lines[n], reason, batch.rows.text(n))
                for n, reason in parsed.rejected
            ]
            rejected += bad
            num_rows = len(batch.lines) + len(batch.unreadable)
            count(self._source, READ, num_rows)
            for _, reason, _ in bad:
                count(self._source, reason.counter)
            progress.report(self._source, num_rows)
            tables.append(parsed.table)
            if sum(table.height for table in tables) >= _PART_ROWS:
                yield from self._send(tables, section)
        if tables:
            yield from self._send(tables, section)
        self._letters.write(number, section.path, rejected)

    def _send(self, tables: list[pl.DataFrame], section: Section) -> Iterator[Any]:
        table = pl.concat(tables, rechunk=True)
        tables.clear()
        return self._route(table, self._numbers[section.path])
