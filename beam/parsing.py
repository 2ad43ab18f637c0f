"""From files to parsed rows and dead letters, and the checks of single values that all rules share."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from beam.accounting import READ, Rejected, RejectedRow, count
from beam.shards import WriteLines
from beam.sources import Fields, Row, read_rows

# Number of the file in sorted order, line: an order of rows that no runner can change.
Place = tuple[int, int]


class PlacedRow(NamedTuple):
    """A row and where it stands."""

    place: Place
    path: str
    row: Row


class DeadLetter(NamedTuple):
    """A rejected row: its place, and the JSON line that tells a person about it."""

    place: Place
    line: str


class Parsed(NamedTuple):
    """What `ReadLog` gives: `(place, parsed value)` for each good row, and a `DeadLetter` for each other one."""

    values: beam.PCollection[tuple[Place, Any]]
    rejected: beam.PCollection[DeadLetter]


class ReadLog(beam.PTransform):
    """Reads the files of one source and parses their rows. Counters: `read`, `rejected_<reason>`.

    A file is read by one worker, so that every row keeps its line number; split large logs into several files.
    """

    def __init__(
        self, source: str, files: Sequence[str], rule: Callable[[Fields], Any]
    ) -> None:
        """Args:
        source: `events` or `items`, the namespace of the counters.
        files: The files, sorted.
        rule: Parses one row's values, or raises RejectedRow.
        """
        super().__init__()
        self._source, self._files, self._rule = source, list(files), rule

    @no_annotations
    def expand(self, root: beam.Pipeline) -> Parsed:
        rows = (
            root
            | "ListFiles" >> beam.Create(list(enumerate(self._files)))
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadRows" >> beam.ParDo(_ReadRowsFn())
        )
        return rows | "ParseRows" >> ParseRows(self._source, self._rule)


class ParseRows(beam.PTransform):
    """Applies a rule to rows. Counters: `read`, `rejected_<reason>`."""

    def __init__(self, source: str, rule: Callable[[Fields], Any]) -> None:
        super().__init__()
        self._source, self._rule = source, rule

    @no_annotations
    def expand(self, rows: beam.PCollection[PlacedRow]) -> Parsed:
        out = rows | beam.ParDo(_ParseRowFn(self._source, self._rule)).with_outputs(
            "rejected", main="values"
        )
        return Parsed(out.values, out.rejected)


class WriteDeadLetters(beam.PTransform):
    """Writes rejected rows, in the order of the log, as `rejected-SOURCE-*.jsonl`; no rows, no file."""

    def __init__(self, source: str, output: str, num_shards: int) -> None:
        super().__init__()
        self._source, self._output, self._num_shards = source, output, num_shards

    def expand(self, rejected: beam.PCollection[DeadLetter]) -> beam.PCollection[str]:
        return (
            rejected
            | "ChooseShard" >> beam.Map(_with_shard, self._num_shards)
            | "Write"
            >> WriteLines(self._output, f"rejected-{self._source}", self._num_shards)
        )


def _with_shard(letter: DeadLetter, num_shards: int) -> tuple[int, tuple[Place, str]]:
    return letter.place[0] % num_shards, (letter.place, letter.line)


class _ReadRowsFn(beam.DoFn):
    def process(self, element: tuple[int, str]) -> Iterator[PlacedRow]:
        number, path = element
        for row in read_rows(path):
            yield PlacedRow((number, row.line), path, row)


class _ParseRowFn(beam.DoFn):
    def __init__(self, source: str, rule: Callable[[Fields], Any]) -> None:
        super().__init__()
        self._source, self._rule = source, rule

    def process(self, element: PlacedRow) -> Iterator[Any]:
        count(self._source, READ)
        try:
            value = self._rule(element.row.fields())
        except RejectedRow as e:
            count(self._source, e.reason.counter)
            letter = {
                "source": f"{element.path}:{element.row.line}",
                "reason": e.reason,
                "row": element.row.text(),
            }
            yield beam.pvalue.TaggedOutput(
                "rejected", DeadLetter(element.place, json.dumps(letter))
            )
        else:
            yield element.place, value


def text_value(value: Any, reason: Rejected) -> str:
    """A value as text: None is "", numbers as they print, a list's parts joined by spaces.

    Raises:
        RejectedRow: for `reason` when it is something else, for `not_utf8` when UTF-8 cannot hold it.
    """
    match value:
        case str():
            text = value
        case None:
            return ""
        case bool():
            text = str(value).lower()
        case float() if math.isnan(value):
            return ""
        case int() | float():
            text = str(value)
        case list() | tuple():
            text = " ".join(text_value(part, reason) for part in value)
        case _:
            raise RejectedRow(reason)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except (
            UnicodeEncodeError
        ):  # half of a surrogate pair, which JSON can write and UTF-8 cannot
            raise RejectedRow(Rejected.NOT_UTF8) from None
    return text


def id_value(value: Any, reason: Rejected) -> str:
    """An id: a string or an integer; "" where it is missing, which pandas writes as NaN.

    Raises:
        RejectedRow: for `reason` when it is blank or something else.
    """
    if value is None or value == "" or value != value:
        return ""
    if type(value) not in (str, int):
        raise RejectedRow(reason)
    text = text_value(value, reason)
    if text.isspace():
        raise RejectedRow(reason)
    return text
