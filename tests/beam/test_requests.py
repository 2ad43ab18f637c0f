"""Levels by deepest stage, and which shown items count as unclicked."""

from collections import Counter
from typing import Any

import polars as pl
import pytest

from beam.accounting import Dropped
from beam.requests import (
    SIGHTINGS,
    SLOTS,
    UnclickedPolicy,
    apply_unclicked_policy,
    build_requests,
    collect_slots,
    combine_events,
    keep_known,
)

POLICY = UnclickedPolicy(unclicked_below=1, max_unclicked=2)
EVENT = {name: dtype for name, dtype in SIGHTINGS.items() if name != "num_rows"}


def event(
    level: int,
    item_id: str,
    position: int = -1,
    *,
    request_id: str = "r",
    timestamp: float = 10.0,
    query: str = "q",
) -> tuple[Any, ...]:
    return request_id, item_id, level, query, timestamp, position


def collected(
    *events: tuple[Any, ...], max_items: int = 99
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    frame = pl.DataFrame(list(events), schema=EVENT, orient="row")
    slots, dropped = collect_slots(combine_events(frame), max_items=max_items)
    return slots.sort("request_id", "item_id"), +dropped


def slots_of(levels: dict[str, tuple[int, int]]) -> pl.DataFrame:
    rows = [
        ("r", item_id, level, "q", 0.0, position, 1)
        for item_id, (level, position) in levels.items()
    ]
    return pl.DataFrame(rows, schema=SLOTS, orient="row")


def kept(levels: dict[str, tuple[int, int]], policy: UnclickedPolicy) -> set[str]:
    return set(apply_unclicked_policy(slots_of(levels), policy)[0]["item_id"])


def test_an_item_has_its_deepest_level_and_its_highest_position() -> None:
    slots, dropped = collected(
        event(1, "a", 4),
        event(3, "a"),
        event(2, "a", 2),
        event(2, "a", 2),
        event(1, "b", 0),
    )
    assert slots.select("item_id", "level", "position", "num_rows").rows() == [
        ("a", 3, 2, 4),
        ("b", 1, 0, 1),
    ]
    assert dropped == Counter()


def test_the_query_is_that_of_the_earliest_event_that_has_one() -> None:
    events = [
        event(2, "a", timestamp=12, query="later"),
        event(1, "b", timestamp=11, query="first"),
        event(3, "a", timestamp=9, query=""),
    ]
    for order_of_arrival in (events, events[::-1]):
        slots, _ = collected(*order_of_arrival)
        assert slots.select("query", "timestamp").unique().rows() == [("first", 9)]


def test_of_two_queries_in_one_moment_the_first_by_alphabet_counts() -> None:
    slots, _ = collected(event(1, "a", query="y"), event(2, "b", query="x"))
    assert slots["query"].to_list() == ["x", "x"]


def test_combining_what_was_combined_apart_gives_the_same_slots() -> None:
    events = [
        event(1, "a", 3, query="x"),
        event(2, "a", timestamp=9, query="y"),
        event(1, "a", 1, query="x"),
        event(1, "b", -1, query=""),
    ]
    frame = pl.DataFrame(events, schema=EVENT, orient="row")
    apart = pl.concat([combine_events(frame[:2]), combine_events(frame[2:])])
    slots, _ = collect_slots(apart, max_items=9)
    assert slots.sort("item_id").equals(collected(*events)[0])


def test_an_id_that_too_many_items_share_is_no_request() -> None:
    many = [event(2, item_id, request_id="-") for item_id in "abc"]
    slots, dropped = collected(
        *many, event(1, "a", request_id="-"), event(2, "a"), max_items=2
    )
    assert slots["request_id"].to_list() == ["r"]
    assert dropped == Counter({Dropped.REQUEST_TOO_LARGE: 4})


def test_items_that_the_catalogue_lacks_are_dropped() -> None:
    slots, _ = collected(event(2, "a"), event(1, "b"), event(1, "b"))
    known, dropped = keep_known(slots, pl.DataFrame({"item_id": ["a", "z"]}))
    assert known["item_id"].to_list() == ["a"]
    assert +dropped == Counter({Dropped.UNKNOWN_ITEM: 2})


def test_a_request_without_a_click_is_dropped_whole() -> None:
    slots, _ = collected(
        event(1, "a"), event(1, "a"), event(1, "b"), event(2, "c", request_id="s")
    )
    requests, dropped = build_requests(slots, POLICY)
    assert requests["request_id"].to_list() == ["s"]
    assert +dropped == Counter({Dropped.REQUEST_WITHOUT_CLICK: 3})


def test_an_order_of_a_request_that_the_log_does_not_have_is_dropped() -> None:
    slots, _ = collected(event(3, "a", query=""))
    requests, dropped = build_requests(slots, POLICY)
    assert requests.height == 0
    assert +dropped == Counter({Dropped.ORDER_UNATTRIBUTED: 1})


def test_items_far_below_the_last_click_are_dropped() -> None:
    levels = {"c": (2, 3), "a": (1, 0), "b": (1, 4), "d": (1, 5)}
    policy = UnclickedPolicy(unclicked_below=1, max_unclicked=9)
    assert kept(levels, policy) == {"c", "a", "b"}  # 4 <= 3 + 1 < 5


@pytest.mark.parametrize(
    "levels", [{"c": (2, -1), "a": (1, 90)}, {"c": (2, 0), "a": (1, -1)}]
)
def test_nothing_is_far_where_positions_are_not_known(
    levels: dict[str, tuple[int, int]],
) -> None:
    assert kept(levels, POLICY) == {"c", "a"}


@pytest.mark.parametrize(
    ("max_unclicked", "unclicked"),
    # Distances to the nearest click: a 2, b 1, c 3, d 1, e unknown.
    [(1, "b"), (2, "bd"), (3, "abd"), (4, "abcd"), (5, "abcde")],
)
def test_of_too_many_unclicked_those_nearest_to_a_click_stay(
    max_unclicked: int, unclicked: str
) -> None:
    levels = {
        "x": (2, 2),
        "y": (2, 8),
        "a": (1, 0),
        "b": (1, 3),
        "c": (1, 5),
        "d": (1, 7),
        "e": (1, -1),
    }
    policy = UnclickedPolicy(unclicked_below=1, max_unclicked=max_unclicked)
    assert kept(levels, policy) == {"x", "y", *unclicked}


def test_without_known_clicks_the_first_positions_stay() -> None:
    assert kept({"x": (2, -1), "b": (1, 1), "c": (1, 2), "a": (1, 0)}, POLICY) == {
        "x",
        "b",
        "a",
    }


def test_positions_near_the_largest_are_counted_right() -> None:
    last = 2**31 - 1
    levels = {"x": (2, last - 1), "a": (1, last), "b": (1, last - 9)}
    assert kept(levels, POLICY) == {"x", "a", "b"}


def test_clicks_of_other_requests_are_no_neighbours() -> None:
    near = slots_of({"x": (2, 2), "a": (1, 0), "b": (1, 3)})
    far = slots_of({"y": (2, 9), "c": (1, 8), "d": (1, 0)}).with_columns(
        request_id=pl.lit("s")
    )
    policy = UnclickedPolicy(unclicked_below=0, max_unclicked=1)
    slots, _ = apply_unclicked_policy(pl.concat([near, far]), policy)
    assert set(slots["item_id"]) == {"x", "a", "y", "c"}


def test_the_rows_of_dropped_items_are_counted() -> None:
    slots, _ = collected(
        event(2, "x", 0), event(1, "a", 1), event(1, "b", 7), event(1, "b", 7)
    )
    requests, dropped = build_requests(
        slots, UnclickedPolicy(unclicked_below=1, max_unclicked=0)
    )
    assert requests["item_id"].to_list() == ["x"]
    assert +dropped == Counter(
        {Dropped.FAR_BELOW_LAST_CLICK: 2, Dropped.OVER_MAX_UNCLICKED: 1}
    )


def test_no_slots_are_no_failure() -> None:
    none = pl.DataFrame(schema=SLOTS)
    assert build_requests(none, POLICY)[0].height == 0
    assert collect_slots(none, max_items=1)[0].height == 0
