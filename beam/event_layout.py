"""How files tell of events: which column holds what, and what names and moments in it mean."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Column, Fields
from beam.clock import Clock
from beam.config import (
    EVENT_FIELDS,
    EVENT_FLAGS,
    KINDS,
    ORDER_FIELDS,
    PreprocessConfig,
)
from beam.values import Results, each, flag_value, is_missing, text_value
from tfrs_mmse.cli import CommandError

_NUMBERS = ("timestamp", "position")
_OPTIONAL_COLUMNS = ("position", "user_id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventLayout:
    """How a log tells of events.

    Attributes:
        columns: The log's column for each of ours that it may have.
        clock: How it writes moments.
        flags: The log's flag columns, deepest first, with the kind that each of them means; none where the column
            `event` names the kind.
        names: What the log calls an event -> its kind.
        only: The kind of all rows, where the log tells of nothing else; `""` where it does.
    """

    columns: dict[str, str]
    clock: Clock
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    only: str = ""

    def value(self, fields: Fields, name: str) -> Any:
        """The value of our column `name` in a row, None where there is none."""
        return fields.get(self.columns[name]) if name in self.columns else None

    def values(self, batch: Batch, name: str) -> Column:
        """`value` for every row."""
        if name not in self.columns:
            return [None] * len(batch.lines)
        return batch.rows.column(self.columns[name])

    def kind(self, *values: Any) -> int:
        """The kind that the values of `kind_columns` mean: its number in `config.KINDS`."""
        if self.only:
            return KINDS.index(self.only)
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
        if isinstance(value, bool | list | tuple):
            raise RejectedRow(Rejected.UNKNOWN_EVENT)
        name = self.names.get(text_value(value, Rejected.UNKNOWN_EVENT))
        if name is None:
            raise RejectedRow(Rejected.UNKNOWN_EVENT)
        return KINDS.index(name)

    def kinds(self, batch: Batch) -> Results:
        """`kind` for every row, None where it means none."""
        columns = [batch.rows.column(name) for name in self.kind_columns()]
        match columns:
            case []:
                return [self.kind()] * len(batch.lines)
            case [column]:
                return each(self.kind, column)
        rows = zip(*map(_listed, columns), strict=True)
        return each(lambda row: self.kind(*row), rows)

    def kind_columns(self) -> tuple[str, ...]:
        """The columns that say what happened: none, `event`, or the flags."""
        return () if self.only else tuple(self.flags) or (self.columns["event"],)

    def read_columns(self) -> dict[str, bool]:
        """All columns that are read, and whether 1 and 1.0 mean the same in them."""
        read = dict.fromkeys(self.flags, True)
        for name, column in self.columns.items():
            read[column] = read.get(column, True) and name in _NUMBERS
        return read


def _listed(column: Column) -> list[Any]:
    return column if isinstance(column, list) else column.to_pylist()


NO_EVENTS = EventLayout(columns={}, clock=Clock())


def event_layout(
    rows: Sequence[Fields], config: PreprocessConfig, *, path: str
) -> EventLayout:
    """Learns from the first rows of the log how it tells of events.

    Raises:
        CommandError: a required column, or one that the config names, is not there.
    """
    present = _columns(rows)
    mapping = config.event_columns
    columns = {name: mapping.get(name, name) for name in EVENT_FIELDS}
    # A flag that the first rows lack may come in later ones.
    flags = {mapping.get(name, name): kind for name, kind in EVENT_FLAGS.items()}
    is_wide = columns["event"] not in present and any(
        column in present for column in flags
    )
    wanted = [*columns, *(name for name in EVENT_FLAGS if name in mapping)]
    for name in wanted:
        column = mapping.get(name, name)
        optional = name in _OPTIONAL_COLUMNS or (is_wide and name == "event")
        if column not in present and (name in mapping or not optional):
            raise _missing(column, present, path, "event_columns", name)
    names = {kind: kind for kind in KINDS} | config.event_names
    clock = Clock(config.timestamp_unit, config.time_zone, config.timestamp_format)
    return EventLayout(
        columns=columns, flags=flags if is_wide else {}, names=names, clock=clock
    )


def order_layout(
    rows: Sequence[Fields], config: PreprocessConfig, *, path: str
) -> EventLayout:
    """Learns from the first rows of a file of orders, which come from another system, what its columns hold.

    Raises:
        CommandError: a required column, or one that the config names, is not there.
    """
    present = _columns(rows)
    mapping = config.order_columns
    columns = {name: mapping.get(name, name) for name in ORDER_FIELDS}
    # Without the user an order belongs to nobody's click, unless it names the request itself.
    owner = "user_id" if columns["request_id"] not in present else "request_id"
    for name in ("timestamp", "item_id", owner, *mapping):
        if columns[name] not in present:
            raise _missing(columns[name], present, path, "order_columns", name)
    clock = Clock(
        config.order_timestamp_unit,
        config.order_time_zone,
        config.order_timestamp_format,
    )
    return EventLayout(columns=columns, clock=clock, only="order")


def _columns(rows: Sequence[Fields]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _missing(
    column: str, present: Sequence[str], path: str, field: str, name: str
) -> CommandError:
    return CommandError(
        f"expected the column {column} in {path}, which has {', '.join(map(str, present))}; "
        f'name the column that holds it in --config: {{"{field}": {{"{name}": "..."}}}}'
    )
