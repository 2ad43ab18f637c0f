"""From lines of JSON to events and items, one object each."""

import codecs
import gzip
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from beam.accounting import (
    EVENTS,
    READ,
    Dropped,
    RejectedRow,
    count,
    count_dropped,
)
from beam.config import PreprocessConfig
from beam.events import Event, levels
from beam.items import ItemLayout, parse_item
from beam.jsonl import json_fields
from tfrs_mmse.schema import Level

# Number of the file in sorted order, line: an order of rows that no runner can change.
Place = tuple[int, int]


class Action(NamedTuple):
    """One valid event that is not ignored.

    Attributes:
        level: The stage that the item reached by it.
        request_id: `""` where its request is not known.
        timestamp: Seconds since 1970.
        query: As typed; `""` where the event does not say.
        item_id: The item.
        position: 0-based, -1 where it is not known.
        user_id: `""` where it is not known.
        is_known: Whether the catalogue has the item; false until `MatchCatalogue` has looked.
    """

    level: int
    request_id: str
    timestamp: float
    query: str
    item_id: str
    position: int
    user_id: str
    is_known: bool = False


class Item(NamedTuple):
    """One valid row of the catalogue.

    Attributes:
        item_id: Its id.
        updated_at: The moment from which the row holds, in seconds since 1970.
        texts: Its text fields, `""` where one is missing.
        attributes: Its attributes: a string, `""` where it is missing, or a number, NaN where it is.
    """

    item_id: str
    updated_at: float
    texts: tuple[str, ...]
    attributes: tuple[Any, ...]


class ReadRows(beam.PTransform):
    """Reads JSONL files and applies a rule to their rows: gives `(place, value)` for each good one."""

    def __init__(
        self, source: str, files: Sequence[str], rule: Callable[[Any], Any]
    ) -> None:
        super().__init__()
        self._source, self._files, self._rule = source, list(files), rule

    @no_annotations
    def expand(self, root: beam.Pipeline) -> beam.PCollection[tuple[Place, Any]]:
        return (
            root
            | "ListFiles" >> beam.Create(list(enumerate(self._files)))
            | "SpreadFiles" >> beam.Reshuffle()
            | "ParseRows" >> beam.ParDo(_ParseRowsFn(self._source, self._rule))
        )


class _ParseRowsFn(beam.DoFn):
    def __init__(self, source: str, rule: Callable[[Any], Any]) -> None:
        super().__init__()
        self._source, self._rule = source, rule

    def process(self, element: tuple[int, str]) -> Iterator[tuple[Place, Any]]:
        number, path = element
        for line, content in _lines(path):
            count(self._source, READ)
            try:
                value = self._rule(json_fields(content))
            except RejectedRow as e:
                count(self._source, e.reason.counter)
            else:
                yield (number, line), value


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not content.isspace():
                yield number, content


def make_item(fields: dict[str, Any], layout: ItemLayout) -> Item:
    """The rule for a row of the catalogue."""
    item_id, updated_at, *values = parse_item(fields, layout)
    num_texts = len(layout.text_fields)
    texts, attributes = values[:num_texts], values[num_texts:]
    return Item(
        str(item_id), float(updated_at), tuple(map(str, texts)), tuple(attributes)
    )


class TakeActions(beam.PTransform):
    """Gives events their levels, and drops those that the configuration ignores."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__()
        self._levels = levels(config).to_list()

    @no_annotations
    def expand(
        self, events: beam.PCollection[tuple[Place, Event]]
    ) -> beam.PCollection[Action]:
        return events | beam.FlatMap(_action, self._levels).with_output_types(Action)


def _action(row: tuple[Place, Event], level_of: Sequence[int]) -> Iterator[Action]:
    _, event = row
    level = level_of[event.kind]
    if level == Level.RANDOM:
        count_dropped(Dropped.IGNORED_EVENT, 1, EVENTS)
    else:
        yield Action(level, *event[1:])
