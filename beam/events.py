"""The event log's columns, and the rule that parses its rows: one event a row, or one shown item a row with flags."""

from typing import NamedTuple

import polars as pl

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Fields
from beam.config import KINDS, PreprocessConfig
from beam.event_layout import EventLayout
from beam.parsing import Parsed, parse_batch
from beam.values import (
    each,
    id_value,
    position_value,
    query_value,
)
from tfrs_mmse.schema import Level

# An order or a cart event may come from another system, which knows neither request nor query.
_FROM_ELSEWHERE = ("cart", "order")


class Event(NamedTuple):
    """One valid event.

    Attributes:
        kind: Its number in `config.KINDS`.
        request_id: `""` for an order or a cart event whose request is not known.
        timestamp: Seconds since 1970.
        query: As typed; `""` where such an event does not say.
        item_id: The item.
        position: 0-based, -1 where it is not known.
        user_id: `""` where it is not known.
    """

    kind: int
    request_id: str
    timestamp: float
    query: str
    item_id: str
    position: int
    user_id: str


EVENTS_SCHEMA: dict[str, type[pl.DataType]] = {
    "kind": pl.UInt8,
    "request_id": pl.String,
    "timestamp": pl.Float64,
    "query": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "user_id": pl.String,
}


def levels(config: PreprocessConfig) -> pl.Series:
    """The level of each kind, by its number; `RANDOM` for what is ignored."""
    by_kind = {
        "ignore": Level.RANDOM,
        "impression": Level.UNCLICKED,
        "click": Level.CLICKED,
        "cart": Level[config.cart_level.upper()],
        "order": Level.ORDERED,
    }
    return pl.Series([int(by_kind[kind]) for kind in KINDS], dtype=pl.UInt8)


def parse_event(fields: Fields, layout: EventLayout) -> Event:
    """Checks one row of the event log and gives its values their types.

    Args:
        fields: The row's values by column.
        layout: How the log tells of events.

    Raises:
        RejectedRow: with the first thing that is wrong.
    """
    kind = layout.kind(*(fields.get(column) for column in layout.kind_columns()))
    request_id = id_value(layout.value(fields, "request_id"), Rejected.BAD_REQUEST_ID)
    item_id = id_value(layout.value(fields, "item_id"), Rejected.BAD_ITEM_ID)
    query = query_value(layout.value(fields, "query"))
    if not item_id or not (KINDS[kind] in _FROM_ELSEWHERE or (request_id and query)):
        raise RejectedRow(Rejected.MISSING_FIELD)
    return Event(
        kind=kind,
        request_id=request_id,
        timestamp=layout.clock.seconds(layout.value(fields, "timestamp")),
        query=query,
        item_id=item_id,
        position=position_value(layout.value(fields, "position")),
        user_id=id_value(layout.value(fields, "user_id"), Rejected.BAD_USER_ID),
    )


def parse_events(batch: Batch, layout: EventLayout) -> Parsed:
    """`parse_event` for a whole batch: a table of `EVENTS_SCHEMA` and what is rejected."""
    rules = {
        "request_id": lambda value: id_value(value, Rejected.BAD_REQUEST_ID),
        "query": query_value,
        "item_id": lambda value: id_value(value, Rejected.BAD_ITEM_ID),
        "position": position_value,
        "user_id": lambda value: id_value(value, Rejected.BAD_USER_ID),
    }
    values = {
        name: each(rule, layout.values(batch, name)) for name, rule in rules.items()
    }
    values["timestamp"] = layout.clock.each(layout.values(batch, "timestamp"))
    values["kind"] = layout.kinds(batch)
    from_elsewhere = pl.col("kind").is_in(
        [KINDS.index(kind) for kind in _FROM_ELSEWHERE]
    )
    is_good = (pl.col("item_id") != "") & (
        from_elsewhere | ((pl.col("request_id") != "") & (pl.col("query") != ""))
    )
    return parse_batch(
        batch,
        values,
        EVENTS_SCHEMA,
        is_good,
        lambda fields: parse_event(fields, layout),
    )
