"""The rule for one event."""

import datetime
from typing import Any

import pytest
import tensorflow as tf

from beam.accounting import RejectedRow
from beam.config import EVENT_COLUMNS
from beam.events import Event, event_columns, has_word, parse_event
from tfrs_mmse import text
from tfrs_mmse.cli import CommandError

COLUMNS = {name: name for name in EVENT_COLUMNS}
CLICK = {
    "event": "click",
    "request_id": "r1",
    "timestamp": 100,
    "query": "red shoe",
    "item_id": "a",
    "position": 3,
}


def parse(**changes: Any) -> Event:
    return parse_event({**CLICK, **changes}, COLUMNS)


def test_a_click_is_parsed() -> None:
    assert parse(user_id="u") == Event(2, "r1", 100.0, "red shoe", "a", 3, "u")


def test_ids_may_be_integers_and_optional_values_may_be_missing() -> None:
    assert parse(item_id=7, request_id=12, position=None) == Event(
        2, "12", 100.0, "red shoe", "7", -1, ""
    )


def test_an_order_needs_neither_request_nor_query() -> None:
    order = parse(event="order", request_id=None, query="", position="")
    assert order == Event(3, "", 100.0, "", "a", -1, "")
    assert (
        parse(event="order", request_id=float("nan"), user_id=float("nan")).request_id
        == ""
    )


def test_columns_are_mapped() -> None:
    fields = {**CLICK, "search_term": "hat"}
    assert parse_event(fields, {**COLUMNS, "query": "search_term"}).query == "hat"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1577836800, 1577836800.0),
        (0.5, 0.5),
        ("1577836800", 1577836800.0),
        ("2020-01-01T00:00:00", 1577836800.0),
        ("2020-01-01 01:00:00+01:00", 1577836800.0),
        ("2020-01-01T00:00:00.500Z", 1577836800.5),
        ("2020-01-01", 1577836800.0),
        (datetime.datetime(2020, 1, 1), 1577836800.0),
    ],
)
def test_timestamps_are_seconds_or_iso_in_utc(value: Any, seconds: float) -> None:
    assert parse(timestamp=value).timestamp == seconds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event": "view"}, "unknown_event"),
        ({"event": 2}, "unknown_event"),
        ({"event": None}, "missing_field"),
        ({"request_id": None}, "missing_field"),
        ({"request_id": ""}, "missing_field"),
        ({"request_id": 1.5}, "bad_request_id"),
        ({"item_id": None}, "missing_field"),
        ({"item_id": " "}, "bad_item_id"),
        ({"item_id": ["a"]}, "bad_item_id"),
        ({"item_id": True}, "bad_item_id"),
        ({"item_id": "\ud800"}, "not_utf8"),
        ({"user_id": {}}, "bad_user_id"),
        ({"query": None}, "missing_field"),
        ({"query": "!?"}, "empty_query"),
        ({"query": "\ud800"}, "not_utf8"),
        ({"query": ["a"]}, "bad_query"),
        ({"query": "é" * 513}, "query_too_long"),
        ({"timestamp": None}, "missing_field"),
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"timestamp": 1577836800000}, "bad_timestamp"),
        ({"timestamp": -1}, "bad_timestamp"),
        ({"timestamp": float("nan")}, "bad_timestamp"),
        ({"timestamp": 10**400}, "bad_timestamp"),
        ({"timestamp": True}, "bad_timestamp"),
        ({"position": -1}, "bad_position"),
        ({"position": 1.5}, "bad_position"),
        ({"position": "first"}, "bad_position"),
        ({"position": 10**400}, "bad_position"),
    ],
)
def test_a_bad_event_is_rejected_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RejectedRow, match=f"^{reason}$"):
        parse(**changes)


def test_a_query_of_1024_bytes_is_not_too_long() -> None:
    assert parse(query="é" * 512).query == "é" * 512


@pytest.mark.parametrize(
    "query",
    ["a", "7", "½", "Ⅷ", "が", "ไม้", "ー", "!", " ", "é̂", "́", "Ⓐ", "😀", "_", "😀b"],
)
def test_has_word_is_the_rule_that_serving_applies(query: str) -> None:
    try:
        text.check_queries(tf.constant([query]))
        served = True
    except tf.errors.InvalidArgumentError:
        served = False
    assert has_word(query) == served


def test_a_missing_column_is_named_with_what_is_there() -> None:
    rows = [
        {
            "event": "click",
            "item_id": "a",
            "timestamp": 1,
            "request_id": "r",
            "term": "x",
        }
    ]
    message = r'column query in log.csv, which has event, item_id, timestamp, request_id, term; .*"query": '
    with pytest.raises(CommandError, match=message):
        event_columns(rows, {}, path="log.csv")
    assert event_columns(rows, {"query": "term"}, path="log.csv")["query"] == "term"
    with pytest.raises(CommandError, match=r"expected the column pos in log.csv"):
        event_columns(rows, {"query": "term", "position": "pos"}, path="log.csv")
