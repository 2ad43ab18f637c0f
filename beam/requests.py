"""From events to search requests: each shown item with the deepest stage that it reached, and the unclicked policy."""

import bisect
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam

from beam.accounting import Dropped, count_dropped
from beam.config import PreprocessConfig
from beam.events import Event
from tfrs_mmse.schema import Level


class Slot(NamedTuple):
    """An item of a request.

    Attributes:
        item_id: The item.
        level: The deepest stage that it reached.
        position: 0-based, the highest on the page where it was shown; -1 where it is not known.
        num_rows: Rows of the log that it was made from, for the accounting.
    """

    item_id: str
    level: int
    position: int
    num_rows: int


class Request(NamedTuple):
    """A search request.

    Attributes:
        request_id: Its id.
        query: That of its earliest event; folded once `FoldQueries` has run.
        timestamp: That of its earliest event, in seconds since 1970.
        slots: Its items, deepest level first, then by position, then by id.
        split: `train` or `test`; `""` until it is known.
        positives: Every item that its query clicked or ordered in the train split; empty until it is known.
    """

    request_id: str
    query: str
    timestamp: float
    slots: tuple[Slot, ...]
    split: str = ""
    positives: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnclickedPolicy:
    """Which shown items count as seen and not wanted; see `PreprocessConfig` for the attributes."""

    unclicked_below: int
    max_unclicked: int

    @classmethod
    def of(cls, config: PreprocessConfig) -> "UnclickedPolicy":
        return cls(
            unclicked_below=config.unclicked_below, max_unclicked=config.max_unclicked
        )


def collect_slots(events: Iterable[Event]) -> list[Slot]:
    """One slot for each item of a request's events, in the order of a request's slots."""
    slots: dict[str, Slot] = {}
    for event in events:
        slot = slots.get(event.item_id)
        if slot is None:
            slots[event.item_id] = Slot(event.item_id, event.level, event.position, 1)
        else:
            known = [
                position
                for position in (slot.position, event.position)
                if position >= 0
            ]
            level, position = max(slot.level, event.level), min(known, default=-1)
            slots[event.item_id] = Slot(
                event.item_id, level, position, slot.num_rows + 1
            )
    return sorted(slots.values(), key=_slot_order)


def _slot_order(slot: Slot) -> tuple[int, int, str]:
    return -slot.level, slot.position, slot.item_id


def apply_unclicked_policy(
    slots: Iterable[Slot], policy: UnclickedPolicy
) -> tuple[list[Slot], list[tuple[Slot, Dropped]]]:
    """Keeps what was clicked, and the unclicked items that were probably seen.

    An unclicked item far below the last click was probably never looked at. Of the others those nearest to a click
    are kept. Where positions are not known, nothing is far.

    Returns:
        The slots kept, in the given order, and those dropped, with the reason.
    """
    slots = list(slots)
    clicked = sorted(
        slot.position
        for slot in slots
        if slot.level > Level.UNCLICKED and slot.position >= 0
    )
    dropped: list[tuple[Slot, Dropped]] = []
    seen: list[Slot] = []
    for slot in slots:
        if slot.level == Level.UNCLICKED:
            if clicked and slot.position > clicked[-1] + policy.unclicked_below:
                dropped.append((slot, Dropped.FAR_BELOW_LAST_CLICK))
            else:
                seen.append(slot)
    seen.sort(
        key=lambda slot: (
            _distance(slot.position, clicked),
            slot.position,
            slot.item_id,
        )
    )
    dropped += [
        (slot, Dropped.OVER_MAX_UNCLICKED) for slot in seen[policy.max_unclicked :]
    ]
    left_out = {slot.item_id for slot, _ in dropped}
    return [slot for slot in slots if slot.item_id not in left_out], dropped


def _distance(position: int, clicked: list[int]) -> int:
    """Positions between an item and the nearest click; where one of them is not known, as far as can be."""
    if position < 0 or not clicked:
        return sys.maxsize
    after = bisect.bisect_left(clicked, position)
    return min(abs(position - near) for near in clicked[max(after - 1, 0) : after + 1])


def build_request(
    request_id: str, events: Iterable[Event], policy: UnclickedPolicy
) -> tuple[Request | None, Counter[Dropped]]:
    """Builds a request from all its events.

    Returns:
        The request, or None where nothing was clicked or no event says what the query was; and how many of the rows
        were dropped, by policy.
    """
    events = list(events)
    slots = collect_slots(events)
    if slots[0].level == Level.UNCLICKED:
        return None, Counter({Dropped.REQUEST_WITHOUT_CLICK: len(events)})
    queries = [(event.timestamp, event.query) for event in events if event.query]
    if not queries:
        return None, Counter({Dropped.ORDER_UNATTRIBUTED: len(events)})
    kept, left_out = apply_unclicked_policy(slots, policy)
    dropped: Counter[Dropped] = Counter()
    for slot, reason in left_out:
        dropped[reason] += slot.num_rows
    earliest = min(event.timestamp for event in events)
    return Request(request_id, min(queries)[1], earliest, tuple(kept)), dropped


class BuildRequests(beam.PTransform):
    """Groups events into requests. Counters: `events/dropped_<policy>`."""

    def __init__(self, policy: UnclickedPolicy) -> None:
        super().__init__()
        self._policy = policy

    def expand(self, events: beam.PCollection[Event]) -> beam.PCollection[Request]:
        return (
            events
            | "KeyByRequest" >> beam.Map(_key).with_output_types(tuple[str, Event])
            | "GroupByRequest" >> beam.GroupByKey()
            | "Build" >> beam.ParDo(_BuildRequestFn(self._policy))
        )


def _key(event: Event) -> tuple[str, Event]:
    return event.request_id, event


class _BuildRequestFn(beam.DoFn):
    def __init__(self, policy: UnclickedPolicy) -> None:
        super().__init__()
        self._policy = policy

    def process(self, element: tuple[str, Iterable[Event]]) -> Iterator[Request]:
        request, dropped = build_request(*element, self._policy)
        for policy, num_rows in dropped.items():
            count_dropped(policy, num_rows)
        if request is not None:
            yield request
