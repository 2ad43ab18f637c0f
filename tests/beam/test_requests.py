"""Levels by deepest stage, and which shown items count as unclicked."""

from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import Dropped, read_counters
from beam.events import Event
from beam.requests import (
    BuildRequests,
    Request,
    Slot,
    UnclickedPolicy,
    apply_unclicked_policy,
    build_request,
)

POLICY = UnclickedPolicy(unclicked_below=1, max_unclicked=2)


def event(
    level: int,
    item_id: str,
    position: int = -1,
    *,
    timestamp: float = 10.0,
    query: str = "q",
) -> Event:
    return Event(level, "r", timestamp, query, item_id, position, "")


def kept(levels: dict[str, tuple[int, int]], policy: UnclickedPolicy) -> list[str]:
    slots = [
        Slot(item_id, level, position, 1)
        for item_id, (level, position) in levels.items()
    ]
    return [slot.item_id for slot in apply_unclicked_policy(slots, policy)[0]]


def test_an_item_has_its_deepest_level_and_its_highest_position() -> None:
    events = [
        event(1, "a", 4),
        event(3, "a"),
        event(2, "a", 2),
        event(2, "a", 2),
        event(1, "b", 0),
    ]
    request, dropped = build_request("r", events, POLICY)
    assert request == Request("r", "q", 10.0, (Slot("a", 3, 2, 4), Slot("b", 1, 0, 1)))
    assert dropped == Counter()


def test_slots_are_ordered_by_level_then_position_then_id() -> None:
    events = [
        event(1, "a", 0),
        event(2, "c", 1),
        event(2, "b", 1),
        event(2, "d", 0),
        event(3, "e", 9),
    ]
    request, _ = build_request("r", events, POLICY)
    assert request is not None
    assert [slot.item_id for slot in request.slots] == ["e", "d", "b", "c", "a"]


def test_the_query_is_that_of_the_earliest_event_that_has_one() -> None:
    events = [
        event(2, "a", timestamp=12, query="later"),
        event(1, "b", timestamp=11, query="first"),
    ]
    events.append(event(3, "a", timestamp=9, query=""))
    for order_of_arrival in (events, events[::-1]):
        request, _ = build_request("r", order_of_arrival, POLICY)
        assert request is not None
        assert (request.query, request.timestamp) == ("first", 9)


def test_a_request_without_a_click_is_dropped_whole() -> None:
    built = build_request("r", [event(1, "a"), event(1, "a"), event(1, "b")], POLICY)
    assert built == (None, Counter({Dropped.REQUEST_WITHOUT_CLICK: 3}))


def test_an_order_of_a_request_that_the_log_does_not_have_is_dropped() -> None:
    assert build_request("r", [event(3, "a", query="")], POLICY) == (
        None,
        Counter({Dropped.ORDER_UNATTRIBUTED: 1}),
    )


def test_items_far_below_the_last_click_are_dropped() -> None:
    levels = {"c": (2, 3), "a": (1, 0), "b": (1, 4), "d": (1, 5)}
    policy = UnclickedPolicy(unclicked_below=1, max_unclicked=9)
    assert kept(levels, policy) == ["c", "a", "b"]  # 4 <= 3 + 1 < 5


@pytest.mark.parametrize(
    "levels", [{"c": (2, -1), "a": (1, 90)}, {"c": (2, 0), "a": (1, -1)}]
)
def test_nothing_is_far_where_positions_are_not_known(
    levels: dict[str, tuple[int, int]],
) -> None:
    assert kept(levels, POLICY) == ["c", "a"]


def test_of_too_many_unclicked_those_nearest_to_a_click_stay() -> None:
    levels = {
        "x": (2, 2),
        "y": (2, 8),
        "a": (1, 0),
        "b": (1, 3),
        "c": (1, 5),
        "d": (1, 7),
        "e": (1, -1),
    }
    # Distances to the nearest click: a 2, b 1, c 3, d 1, e unknown.
    assert kept(levels, UnclickedPolicy(unclicked_below=1, max_unclicked=2)) == [
        "x",
        "y",
        "b",
        "d",
    ]
    assert kept(levels, UnclickedPolicy(unclicked_below=1, max_unclicked=4)) == [
        "x",
        "y",
        "a",
        "b",
        "c",
        "d",
    ]


def test_without_known_clicks_the_first_positions_stay() -> None:
    assert kept({"x": (2, -1), "b": (1, 1), "c": (1, 2), "a": (1, 0)}, POLICY) == [
        "x",
        "b",
        "a",
    ]


def test_the_rows_of_dropped_items_are_counted() -> None:
    events = [event(2, "x", 0), event(1, "a", 1), event(1, "b", 7), event(1, "b", 7)]
    request, dropped = build_request(
        "r", events, UnclickedPolicy(unclicked_below=1, max_unclicked=0)
    )
    assert request is not None and request.slots == (Slot("x", 2, 0, 1),)
    assert dropped == Counter(
        {Dropped.FAR_BELOW_LAST_CLICK: 2, Dropped.OVER_MAX_UNCLICKED: 1}
    )


def test_events_are_grouped_by_request() -> None:
    events = [event(2, "a"), event(1, "b"), event(1, "c")._replace(request_id="other")]
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    requests = pipeline | beam.Create(events, reshuffle=False) | BuildRequests(POLICY)
    assert_that(
        requests,
        equal_to([Request("r", "q", 10.0, (Slot("a", 2, -1, 1), Slot("b", 1, -1, 1)))]),
    )
    assert read_counters(pipeline.run(), ["events"]) == {
        "events": {"dropped_request_without_click": 1}
    }
