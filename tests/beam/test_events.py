"""The rule for one event."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from beam.accounting import RejectedRow
from beam.batches import Section
from beam.config import KINDS, PreprocessConfig
from beam.event_layout import EventLayout, event_layout
from beam.events import Event, parse_event, parse_events
from beam.sources import read_batches
from beam.values import has_word
from tfrs_mmse import text
from tfrs_mmse.cli import CommandError

CLICK = {
    "event": "click",
    "request_id": "r1",
    "timestamp": 100,
    "query": "red shoe",
    "item_id": "a",
    "position": 3,
}
IMPRESSION_KIND, CLICK_KIND, CART_KIND, ORDER_KIND = range(1, 5)
SHOWN = {name: value for name, value in CLICK.items() if name != "event"} | {
    "clicked": 0,
    "ordered": 0,
}


def layout_of(*rows: dict[str, Any], **config: Any) -> EventLayout:
    return event_layout(rows, PreprocessConfig(**config), path="log.csv")


LAYOUT = layout_of(CLICK)


def parse(**changes: Any) -> Event:
    return parse_event({**CLICK, **changes}, LAYOUT)


def test_a_click_is_parsed() -> None:
    assert parse(user_id="u") == Event(CLICK_KIND, "r1", 100.0, "red shoe", "a", 3, "u")


def test_ids_may_be_integers_and_optional_values_may_be_missing() -> None:
    assert parse(item_id=7, request_id=12, position=None) == Event(
        CLICK_KIND, "12", 100.0, "red shoe", "7", -1, ""
    )


def test_an_order_needs_neither_request_nor_query() -> None:
    order = parse(event="order", request_id=None, query="", position="")
    assert order == Event(ORDER_KIND, "", 100.0, "", "a", -1, "")
    assert (
        parse(event="order", request_id=float("nan"), user_id=float("nan")).request_id
        == ""
    )


def test_events_may_be_numbers_or_bytes() -> None:
    names = {"2": "click", "3": "order"}
    layout = layout_of(CLICK, event_names=names)
    for event, kind in ((2, CLICK_KIND), (2.0, CLICK_KIND), (b"3", ORDER_KIND)):
        assert parse_event({**CLICK, "event": event}, layout).kind == kind


def test_a_flag_that_the_first_rows_lack_counts_in_later_ones() -> None:
    layout = layout_of({**SHOWN, "ordered": 0}, {**SHOWN})
    sparse = {name: value for name, value in SHOWN.items() if name != "ordered"}
    late = layout_of(sparse)
    assert late.read_columns() == layout.read_columns()
    assert parse_event({**sparse, "ordered": True}, late).kind == ORDER_KIND
    assert parse_event({**sparse, "clicked": True}, late).kind == CLICK_KIND
    assert parse_event(sparse, late).kind == IMPRESSION_KIND


def test_columns_are_mapped() -> None:
    fields = {**CLICK, "search_term": "hat"}
    layout = layout_of(fields, event_columns={"query": "search_term"})
    assert parse_event(fields, layout).query == "hat"


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
        ({"event": float("nan")}, "missing_field"),
        ({"event": ["click"]}, "unknown_event"),
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
    row = {
        "event": "click",
        "item_id": "a",
        "timestamp": 1,
        "request_id": "r",
        "term": "x",
    }
    message = r'column query in log.csv, which has event, item_id, timestamp, request_id, term; .*"query": '
    with pytest.raises(CommandError, match=message):
        layout_of(row)
    assert layout_of(row, event_columns={"query": "term"}).columns["query"] == "term"
    with pytest.raises(CommandError, match=r"expected the column pos in log.csv"):
        layout_of(row, event_columns={"query": "term", "position": "pos"})
    with pytest.raises(CommandError, match=r"expected the column buy in log.csv"):
        layout_of(SHOWN, event_columns={"ordered": "buy"})


def test_a_shop_names_its_events_as_it_likes() -> None:
    layout = layout_of(
        CLICK,
        event_names={"view": "impression", "add_to_cart": "cart", "scroll": "ignore"},
    )
    kinds = [
        parse_event({**CLICK, "event": name}, layout).kind
        for name in ("view", "add_to_cart", "scroll", "click")
    ]
    assert kinds == [IMPRESSION_KIND, CART_KIND, KINDS.index("ignore"), CLICK_KIND]


def test_a_cart_event_needs_neither_request_nor_query() -> None:
    assert parse(event="cart", request_id=None, query=None)[:2] == (CART_KIND, "")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, IMPRESSION_KIND),
        ({"clicked": None, "ordered": ""}, IMPRESSION_KIND),
        ({"clicked": 1}, CLICK_KIND),
        ({"clicked": "TRUE", "ordered": "no"}, CLICK_KIND),
        ({"clicked": False, "ordered": 2.0}, ORDER_KIND),  # a number of pieces
        ({"clicked": True, "carted": "y"}, CART_KIND),
        ({"clicked": True, "carted": "y", "ordered": "1"}, ORDER_KIND),
    ],
)
def test_a_row_for_each_shown_item_has_its_deepest_flag(
    changes: dict[str, Any], kind: int
) -> None:
    layout = layout_of({**SHOWN, "carted": ""})
    assert parse_event({**SHOWN, **changes}, layout) == Event(
        kind, "r1", 100.0, "red shoe", "a", 3, ""
    )


@pytest.mark.parametrize("flag", ["perhaps", -1, float("inf"), [1], "nan"])
def test_a_flag_that_says_neither_is_rejected(flag: Any) -> None:
    with pytest.raises(RejectedRow, match=r"^bad_flag$"):
        parse_event({**SHOWN, "clicked": flag}, layout_of(SHOWN))


@pytest.mark.parametrize(
    ("config", "value", "seconds"),
    [
        ({"timestamp_unit": "ms"}, 1577836800500, 1577836800.5),
        ({"timestamp_unit": "ms"}, "1577836800500", 1577836800.5),
        ({"time_zone": "America/Sao_Paulo"}, "2020-01-01T00:00:00", 1577847600.0),
        ({"time_zone": "America/Sao_Paulo"}, "2020-01-01T00:00:00Z", 1577836800.0),
        ({"timestamp_format": "%d/%m/%Y %H:%M"}, "31/12/2019 23:00", 1577833200.0),
        ({"timestamp_format": "%d.%m.%Y %z"}, "01.01.2020 +0100", 1577833200.0),
    ],
)
def test_a_shop_writes_moments_as_it_likes(
    config: dict[str, Any], value: Any, seconds: float
) -> None:
    assert (
        parse_event({**CLICK, "timestamp": value}, layout_of(CLICK, **config)).timestamp
        == seconds
    )


ODD_VALUES = [
    None, "", " ", "a", "7", 7, 7.0, 1.5, -1, 0, 1, True, False, 10**30, 1e30, 2**40, "\ud800", "é", "!?", "x" * 1025,
    "click", "order", "cart", "nan", "inf", "2020-01-01", "2020-01-01T00:00:00+25:00", [], ["a"], {}, {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["click", "order"])
def test_a_batch_is_parsed_as_its_rows_are(tmp_path: Path, kind: str) -> None:
    rows = [
        {**CLICK, "event": kind, "user_id": "u", name: value}
        for name in LAYOUT.columns
        for value in ODD_VALUES
    ]
    rows += [
        {**CLICK, "request_id": odd, "item_id": other}
        for odd in ODD_VALUES
        for other in ODD_VALUES
    ]
    path = tmp_path / "e.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected, reasons = [], {}
    for number, row in enumerate(rows):
        try:
            expected.append((*parse_event(row, LAYOUT), number + 1))
        except RejectedRow as e:
            reasons[number] = e.reason
    (batch,) = read_batches(Section(str(path)))
    parsed = parse_events(batch, LAYOUT)
    assert sorted(parsed.table.rows()) == sorted(expected)
    assert dict(parsed.rejected) == reasons
    assert len(expected) > 100 and len(reasons) > 100
