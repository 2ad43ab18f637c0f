"""The event log's columns, and the rule that parses its rows: one event a row, or one shown item a row with flags."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Column, Fields
from beam.config import EVENT_FIELDS, EVENT_FLAGS, KINDS, PreprocessConfig
from beam.parsing import Parsed, parse_batch
from beam.values import (
    Clock,
    Results,
    each,
    flag_value,
    id_value,
    is_missing,
    position_value,
    query_value,
)
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import Level

_NUMBERS = ("timestamp", "position")
_OPTIONAL_COLUMNS = ("position", "user_id")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventLayout:
    """How a log tells of events.

    Attributes:
        columns: The log's column for each of ours.
        flags: The log's flag columns, deepest first, with the kind that each of them means; none where the column
            `event` names the kind.
        names: What the log calls an event -> its kind.
        clock: How it writes moments.
    """

    columns: dict[str, str]
    flags: dict[str, str]
    names: dict[str, str]
    clock: Clock

    def kind(self, *values: Any) -> int:
        """The kind that the value of `event`, or those of the flags, mean: its number in `config.KINDS`."""
        if self.flags:
            shown = [
                kind
                for flag, kind in zip(values, self.flags.values(), strict=True)
                if flag_value(flag)
            ]
            return KINDS.index(shown[0] if shown else "impression")
        (value,) = values
        if is_missing(value):
            raise RejectedRow(Rejected.MISSING_FIELD)
        name = self.names.get(value) if isinstance(value, str) else None
        if name is None:
            raise RejectedRow(Rejected.UNKNOWN_EVENT)
        return KINDS.index(name)

    def kinds(self, columns: Sequence[Column]) -> Results:
        """`kind` for whole columns, None where a row means none."""
        if len(columns) == 1:
            return each(self.kind, columns[0])
        rows = zip(*(_listed(column) for column in columns), strict=True)
        return each(lambda row: self.kind(*row), rows)

    def kind_columns(self) -> tuple[str, ...]:
        return tuple(self.flags) or (self.columns["event"],)

    def read_columns(self) -> dict[str, bool]:
        """All columns that are read, and whether 1 and 1.0 mean the same in them."""
        read = dict.fromkeys(self.flags, True)
        for name, column in self.columns.items():
            read[column] = read.get(column, True) and name in _NUMBERS
        return read


def _listed(column: Column) -> list[Any]:
    return column if isinstance(column, list) else column.to_pylist()


NO_EVENTS = EventLayout(columns={}, flags={}, names={}, clock=Clock())


def event_layout(
    rows: Sequence[Fields], config: PreprocessConfig, *, path: str
) -> EventLayout:
    """Learns from the first rows of the log how it tells of events.

    Raises:
        CommandError: a required column, or one that the config names, is not there.
    """
    present = list(dict.fromkeys(column for row in rows for column in row))
    mapping = config.event_columns
    columns = {name: mapping.get(name, name) for name in EVENT_FIELDS}
    flags = {mapping.get(name, name): kind for name, kind in EVENT_FLAGS.items()}
    flags = {column: kind for column, kind in flags.items() if column in present}
    is_wide = bool(flags) and columns["event"] not in present
    wanted = [*columns, *(name for name in EVENT_FLAGS if name in mapping)]
    for name in wanted:
        column = mapping.get(name, name)
        optional = name in _OPTIONAL_COLUMNS or (is_wide and name == "event")
        if column not in present and (name in mapping or not optional):
            raise CommandError(
                f"expected the column {column} in {path}, which has {', '.join(map(str, present))}; "
                f'name the column that holds it in --config: {{"event_columns": {{"{name}": "..."}}}}'
            )
    names = {kind: kind for kind in KINDS} | config.event_names
    clock = Clock(config.timestamp_unit, config.time_zone, config.timestamp_format)
    return EventLayout(
        columns=columns, flags=flags if is_wide else {}, names=names, clock=clock
    )


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
    columns = layout.columns
    kind = layout.kind(*(fields.get(column) for column in layout.kind_columns()))
    request_id = id_value(fields.get(columns["request_id"]), Rejected.BAD_REQUEST_ID)
    item_id = id_value(fields.get(columns["item_id"]), Rejected.BAD_ITEM_ID)
    query = query_value(fields.get(columns["query"]))
    if not item_id or not (KINDS[kind] in _FROM_ELSEWHERE or (request_id and query)):
        raise RejectedRow(Rejected.MISSING_FIELD)
    return Event(
        kind=kind,
        request_id=request_id,
        timestamp=layout.clock.seconds(fields.get(columns["timestamp"])),
        query=query,
        item_id=item_id,
        position=position_value(fields.get(columns["position"])),
        user_id=id_value(fields.get(columns["user_id"]), Rejected.BAD_USER_ID),
    )


def parse_events(batch: Batch, layout: EventLayout) -> Parsed:
    """`parse_event` for a whole batch: a table of `EVENTS_SCHEMA` and what is rejected."""
    columns, rows = layout.columns, batch.rows
    rules = {
        "request_id": lambda value: id_value(value, Rejected.BAD_REQUEST_ID),
        "query": query_value,
        "item_id": lambda value: id_value(value, Rejected.BAD_ITEM_ID),
        "position": position_value,
        "user_id": lambda value: id_value(value, Rejected.BAD_USER_ID),
    }
    values = {
        name: each(rule, rows.column(columns[name])) for name, rule in rules.items()
    }
    values["timestamp"] = layout.clock.each(rows.column(columns["timestamp"]))
    values["kind"] = layout.kinds([rows.column(name) for name in layout.kind_columns()])
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
