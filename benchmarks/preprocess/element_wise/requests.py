"""From events to search requests: catalogue, attribution, slots and the unclicked policy."""

import bisect
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from beam.accounting import ITEMS, Dropped, count_dropped
from beam.config import PreprocessConfig
from benchmarks.preprocess.element_wise.rows import Action, Item, Place
from tfrs_mmse.schema import Level


class Slot(NamedTuple):
    """An item of a request, with the number of rows of the log that it was made from."""

    item_id: str
    level: int
    position: int
    num_rows: int


class Request(NamedTuple):
    """A search request: its slots deepest level first, then by position, then by id."""

    request_id: str
    query: str
    timestamp: float
    slots: tuple[Slot, ...]
    split: str = ""
    positives: tuple[str, ...] = ()


class Catalogue(NamedTuple):
    """Each item once, and the actions, which know whether the catalogue has their item."""

    items: beam.PCollection[Item]
    actions: beam.PCollection[Action]


class MatchCatalogue(beam.PTransform):
    """Keeps the latest row of each item, of equally late ones the first, and looks up every action's item."""

    @no_annotations
    def expand(
        self,
        logs: tuple[beam.PCollection[tuple[Place, Item]], beam.PCollection[Action]],
    ) -> Catalogue:
        items, actions = logs
        keyed_items = items | "KeyItems" >> beam.Map(_key_item).with_output_types(
            tuple[str, Any]
        )
        keyed_actions = actions | "KeyActions" >> beam.Map(
            lambda action: (action.item_id, action)
        ).with_output_types(tuple[str, Any])
        matched = (
            (keyed_items, keyed_actions)
            | "Together" >> beam.Flatten()
            | "GroupByItem" >> beam.GroupByKey()
            | "Match" >> beam.ParDo(_MatchFn()).with_outputs("actions", main="items")
        )
        return Catalogue(matched.items, matched.actions)


def _key_item(placed: tuple[Place, Item]) -> tuple[str, tuple[Place, Item]]:
    return placed[1].item_id, placed


class _MatchFn(beam.DoFn):
    def process(self, element: tuple[str, Iterable[Any]]) -> Iterator[Any]:
        _, values = element  # iterated twice, never held: some items are popular
        rows = [value for value in values if not isinstance(value, Action)]
        for value in values:
            if isinstance(value, Action):
                known = value._replace(is_known=bool(rows))
                yield beam.pvalue.TaggedOutput("actions", known)
        if rows:
            yield min(rows, key=lambda row: (-row[1].updated_at, row[0]))[1]
            count_dropped(Dropped.DUPLICATE_ITEM, len(rows) - 1, ITEMS)


class AttributeActions(beam.PTransform):
    """Gives what names no request that of the same user's latest click on the same item, or drops it."""

    def __init__(self, window_seconds: float) -> None:
        super().__init__()
        self._window_seconds = window_seconds

    def expand(self, actions: beam.PCollection[Action]) -> beam.PCollection[Action]:
        routed = actions | "Route" >> beam.ParDo(_RouteFn()).with_outputs(
            "of_user", main="of_request"
        )
        attributed = (
            routed.of_user
            | "KeyByUser"
            >> beam.Map(
                lambda action: ((action.user_id, action.item_id), action)
            ).with_output_types(tuple[tuple[str, str], Action])
            | "GroupByUserAndItem" >> beam.GroupByKey()
            | "Attribute" >> beam.ParDo(_AttributeFn(self._window_seconds))
        )
        return (routed.of_request, attributed) | "Together" >> beam.Flatten()


class _RouteFn(beam.DoFn):
    def process(self, action: Action) -> Iterator[Any]:
        if action.request_id:
            yield action
            if action.level == Level.CLICKED and action.user_id:
                yield beam.pvalue.TaggedOutput("of_user", action)
        elif action.user_id:
            yield beam.pvalue.TaggedOutput("of_user", action)
        else:
            count_dropped(Dropped.ORDER_UNATTRIBUTED, 1)


class _AttributeFn(beam.DoFn):
    def __init__(self, window_seconds: float) -> None:
        super().__init__()
        self._window_seconds = window_seconds

    def process(
        self, element: tuple[tuple[str, str], Iterable[Action]]
    ) -> Iterator[Action]:
        actions = list(element[1])
        clicks = [action for action in actions if action.request_id]
        for order in (action for action in actions if not action.request_id):
            earliest = order.timestamp - self._window_seconds
            before = [
                (click.timestamp, click.request_id)
                for click in clicks
                if earliest <= click.timestamp <= order.timestamp
            ]
            if before:
                yield order._replace(request_id=max(before)[1])
            else:
                count_dropped(Dropped.ORDER_UNATTRIBUTED, 1)


class BuildRequests(beam.PTransform):
    """Groups actions into requests that can be learned from."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, actions: beam.PCollection[Action]) -> beam.PCollection[Request]:
        return (
            actions
            | "KeyByRequest"
            >> beam.Map(lambda action: (action.request_id, action)).with_output_types(
                tuple[str, Action]
            )
            | "GroupByRequest" >> beam.GroupByKey()
            | "Build" >> beam.ParDo(_BuildRequestFn(self._config))
        )


class _BuildRequestFn(beam.DoFn):
    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__()
        self._config = config

    def process(self, element: tuple[str, Iterable[Action]]) -> Iterator[Request]:
        request_id, actions = element[0], list(element[1])
        if len({action.item_id for action in actions}) > self._config.max_request_items:
            count_dropped(Dropped.REQUEST_TOO_LARGE, len(actions))
            return
        known = [action for action in actions if action.is_known]
        count_dropped(Dropped.UNKNOWN_ITEM, len(actions) - len(known))
        slots = _collect_slots(known)
        queries = [(action.timestamp, action.query) for action in actions]
        queries = [pair for pair in queries if pair[1]]
        if not slots or slots[0].level == Level.UNCLICKED:
            count_dropped(Dropped.REQUEST_WITHOUT_CLICK, len(known))
        elif not queries:
            count_dropped(Dropped.ORDER_UNATTRIBUTED, len(known))
        else:
            kept, dropped = _apply_unclicked_policy(slots, self._config)
            for policy, num_rows in dropped.items():
                count_dropped(policy, num_rows)
            earliest = min(action.timestamp for action in actions)
            yield Request(request_id, min(queries)[1], earliest, tuple(kept))


def _collect_slots(actions: Iterable[Action]) -> list[Slot]:
    slots: dict[str, Slot] = {}
    for action in actions:
        old = slots.get(action.item_id, Slot(action.item_id, 0, -1, 0))
        known = [place for place in (old.position, action.position) if place >= 0]
        slots[action.item_id] = Slot(
            action.item_id,
            max(old.level, action.level),
            min(known, default=-1),
            old.num_rows + 1,
        )
    return sorted(
        slots.values(), key=lambda slot: (-slot.level, slot.position, slot.item_id)
    )


def _apply_unclicked_policy(
    slots: Sequence[Slot], config: PreprocessConfig
) -> tuple[list[Slot], Counter[Dropped]]:
    clicked = sorted(
        slot.position
        for slot in slots
        if slot.level > Level.UNCLICKED and slot.position >= 0
    )
    dropped: Counter[Dropped] = Counter()
    left_out = set()
    seen: list[Slot] = []
    for slot in (slot for slot in slots if slot.level == Level.UNCLICKED):
        if clicked and slot.position > clicked[-1] + config.unclicked_below:
            left_out.add(slot)
            dropped[Dropped.FAR_BELOW_LAST_CLICK] += slot.num_rows
        else:
            seen.append(slot)
    seen.sort(
        key=lambda slot: (
            _distance(slot.position, clicked),
            slot.position,
            slot.item_id,
        )
    )
    for slot in seen[config.max_unclicked :]:
        left_out.add(slot)
        dropped[Dropped.OVER_MAX_UNCLICKED] += slot.num_rows
    return [slot for slot in slots if slot not in left_out], dropped


def _distance(position: int, clicked: list[int]) -> int:
    """Positions between an item and the nearest click; where one of them is not known, as far as can be."""
    if position < 0 or not clicked:
        return sys.maxsize
    after = bisect.bisect_left(clicked, position)
    return min(abs(position - near) for near in clicked[max(after - 1, 0) : after + 1])
