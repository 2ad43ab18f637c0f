"""Brings events and catalogue together: each item once, and only events whose item the catalogue has."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from beam.accounting import ITEMS, Dropped, count_dropped
from beam.events import Event
from beam.items import Item
from beam.parsing import Place


class Catalogue(NamedTuple):
    """What `MatchCatalogue` gives."""

    items: beam.PCollection[Item]
    events: beam.PCollection[Event]


class MatchCatalogue(beam.PTransform):
    """Keeps the first row of each item, and the events whose item is in the catalogue.

    The first row is the one that stands first in the sorted files. Counters: `items/dropped_duplicate_item`,
    `events/dropped_unknown_item`.
    """

    @no_annotations
    def expand(
        self, logs: tuple[beam.PCollection[tuple[Place, Item]], beam.PCollection[Event]]
    ) -> Catalogue:
        items, events = logs
        keyed_items = items | "KeyItems" >> beam.Map(_key_item).with_output_types(
            tuple[str, Any]
        )
        keyed_events = events | "KeyEvents" >> beam.Map(_key_event).with_output_types(
            tuple[str, Any]
        )
        matched = (
            (keyed_items, keyed_events)
            | "Together" >> beam.Flatten()
            | "GroupByItem" >> beam.GroupByKey()
            | "Match" >> beam.ParDo(_MatchFn()).with_outputs("events", main="items")
        )
        return Catalogue(matched.items, matched.events)


def _key_item(placed: tuple[Place, Item]) -> tuple[str, tuple[Place, Item]]:
    return placed[1].item_id, placed


def _key_event(event: Event) -> tuple[str, Event]:
    return event.item_id, event


class _MatchFn(beam.DoFn):
    def process(self, element: tuple[str, Iterable[Any]]) -> Iterator[Any]:
        _, values = (
            element  # iterated twice and never held: a popular item has millions of events
        )
        rows = [value for value in values if not isinstance(value, Event)]
        num_events = 0
        for value in values:
            if isinstance(value, Event):
                num_events += 1
                if rows:
                    yield beam.pvalue.TaggedOutput("events", value)
        if rows:
            yield min(rows, key=_place)[1]
            count_dropped(Dropped.DUPLICATE_ITEM, len(rows) - 1, ITEMS)
        else:
            count_dropped(Dropped.UNKNOWN_ITEM, num_events)


def _place(placed: tuple[Place, Item]) -> Place:
    return placed[0]
