"""The rule that parses one event of the search log."""

import datetime
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from beam.accounting import Rejected, RejectedRow
from beam.config import EVENT_COLUMNS
from beam.parsing import id_value, text_value
from beam.sources import Fields
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import Level

KINDS = {"impression": Level.UNCLICKED, "click": Level.CLICKED, "order": Level.ORDERED}

_OPTIONAL_COLUMNS = ("position", "user_id")
_MAX_SECONDS = (
    1e11  # the year 5138; a larger number is milliseconds, which we do not guess at
)
_MAX_POSITION = 2**31


class Event(NamedTuple):
    """One valid event.

    Attributes:
        level: The stage that the item reached by it.
        request_id: `""` for an order whose request is not known.
        timestamp: Seconds since 1970.
        query: As typed; `""` where an order does not say.
        item_id: The item.
        position: 0-based, -1 where it is not known.
        user_id: `""` where it is not known.
    """

    level: int
    request_id: str
    timestamp: float
    query: str
    item_id: str
    position: int
    user_id: str


def event_columns(
    rows: Sequence[Fields], mapping: Mapping[str, str], *, path: str
) -> dict[str, str]:
    """The log's column for each of ours, checked against the first rows of the log.

    Raises:
        CommandError: a required column, or one that the config names, is not there.
    """
    present = list(dict.fromkeys(column for row in rows for column in row))
    columns = {name: mapping.get(name, name) for name in EVENT_COLUMNS}
    for name, column in columns.items():
        if column not in present and (name in mapping or name not in _OPTIONAL_COLUMNS):
            raise CommandError(
                f"expected the column {column} in {path}, which has {', '.join(map(str, present))}; "
                f'name the column that holds it in --config: {{"event_columns": {{"{name}": "..."}}}}'
            )
    return columns


def parse_event(fields: Fields, columns: Mapping[str, str]) -> Event:
    """Checks one row of the event log and gives its values their types.

    Args:
        fields: The row's values by column.
        columns: The log's column for each of ours.

    Raises:
        RejectedRow: with the first thing that is wrong.
    """
    kind = fields.get(columns["event"])
    if kind is None or kind == "":
        raise RejectedRow(Rejected.MISSING_FIELD)
    level = KINDS.get(kind) if isinstance(kind, str) else None
    if level is None:
        raise RejectedRow(Rejected.UNKNOWN_EVENT)
    request_id = id_value(fields.get(columns["request_id"]), Rejected.BAD_REQUEST_ID)
    item_id = id_value(fields.get(columns["item_id"]), Rejected.BAD_ITEM_ID)
    query = _query(fields.get(columns["query"]))
    is_order = level is Level.ORDERED
    if not item_id or not (is_order or (request_id and query)):
        raise RejectedRow(Rejected.MISSING_FIELD)
    return Event(
        level=int(level),
        request_id=request_id,
        timestamp=_timestamp(fields.get(columns["timestamp"])),
        query=query,
        item_id=item_id,
        position=_position(fields.get(columns["position"])),
        user_id=id_value(fields.get(columns["user_id"]), Rejected.BAD_USER_ID),
    )


def _query(value: Any) -> str:
    """`""` where it is missing; otherwise a query that `text.check_queries` takes."""
    if isinstance(value, list | tuple | bool):
        raise RejectedRow(Rejected.BAD_QUERY)
    query = text_value(value, Rejected.BAD_QUERY)
    if not query:
        return ""
    if (
        len(query) > schema.MAX_QUERY_BYTES
        or len(query.encode("utf-8")) > schema.MAX_QUERY_BYTES
    ):
        raise RejectedRow(Rejected.QUERY_TOO_LONG)
    if not has_word(query):
        raise RejectedRow(Rejected.EMPTY_QUERY)
    return query


def has_word(query: str) -> bool:
    """Whether there is a letter or a digit, of any script, in it."""
    return any(unicodedata.category(c)[0] in "LN" for c in query)


def _timestamp(value: Any) -> float:
    """Seconds since 1970 from a number, a numeric string, ISO 8601 or a datetime; without a zone it is UTC."""
    match value:
        case None | "":
            raise RejectedRow(Rejected.MISSING_FIELD)
        case bool():
            raise RejectedRow(Rejected.BAD_TIMESTAMP)
        case int() | float():
            return _plausible(value)
        case str():
            try:
                return _plausible(float(value))
            except ValueError:
                pass
            try:
                return _seconds(datetime.datetime.fromisoformat(value.strip()))
            except (ValueError, OverflowError):
                raise RejectedRow(Rejected.BAD_TIMESTAMP) from None
        case datetime.datetime():
            return _seconds(value)
    raise RejectedRow(Rejected.BAD_TIMESTAMP)


def _seconds(moment: datetime.datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return _plausible(aware.timestamp())


def _plausible(seconds: float) -> float:
    if not 0 <= seconds < _MAX_SECONDS:
        raise RejectedRow(Rejected.BAD_TIMESTAMP)
    return float(seconds)


def _position(value: Any) -> int:
    if value is None or value == "":
        return -1
    try:
        number = (
            float(value)
            if isinstance(value, int | float | str) and not isinstance(value, bool)
            else -1.0
        )
    except (ValueError, OverflowError):
        number = -1.0
    if number != number and isinstance(
        value, float
    ):  # a missing value in Parquet written by pandas
        return -1
    if not (0 <= number < _MAX_POSITION and number.is_integer()):
        raise RejectedRow(Rejected.BAD_POSITION)
    return int(number)
