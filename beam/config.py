"""The one configuration of preprocessing: everything that decides which records come out of the same logs."""

import dataclasses
import json
import sys
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tfrs_mmse.cli import CommandError

EVENT_FIELDS = (
    "event",
    "request_id",
    "timestamp",
    "query",
    "item_id",
    "position",
    "user_id",
)
# Of a row that tells of one shown item, the deepest first: column -> the kind of event that it means.
EVENT_FLAGS = {"ordered": "order", "carted": "cart", "clicked": "click"}
EVENT_COLUMNS = (*EVENT_FIELDS, *EVENT_FLAGS)
# Of a row of another system, which tells of one ordered item.
ORDER_FIELDS = ("timestamp", "item_id", "user_id", "request_id", "query")
KINDS = ("ignore", "impression", "click", "cart", "order")
CART_LEVELS = ("clicked", "ordered")
SPLIT_BY = ("time", "query")
ROLES = ("text", "categorical", "number", "ignore")
TIME_UNITS = ("s", "ms", "us", "ns")

_CHOICES = {
    "split_by": SPLIT_BY,
    "cart_level": CART_LEVELS,
    "timestamp_unit": TIME_UNITS,
    "order_timestamp_unit": TIME_UNITS,
    "item_timestamp_unit": TIME_UNITS,
}
_AT_LEAST = {
    "attribution_hours": 0,
    "unclicked_below": 0,
    "max_unclicked": 0,
    "max_positives": 1,
    "min_count": 1,
    "max_vocabulary": 1,
    "number_buckets": 2,
    "max_query_words": 1,
    "max_field_words": 1,
    "max_request_items": 1,
    "num_shards": 0,
    "max_rejected": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Everything that decides the outcome of preprocessing, apart from the logs themselves.

    Attributes:
        event_columns: Our name of an event column -> its name in the log; a column not named here has our name.
        order_columns: The same for files of orders from another system: `timestamp`, `item_id` and `user_id`, or
            `request_id`, and `query`.
        item_columns: The same for the catalogue; also gives an attribute column another name. `updated_at` is the
            moment from which a row holds: of several rows of an item the latest counts.
        event_names: What the log calls an event -> `impression`, `click`, `cart`, `order` or `ignore`; our own names
            are known.
        cart_level: What an item that was put into the cart counts as: `clicked` or `ordered`.
        timestamp_unit: Of numbers since 1970: `s`, `ms`, `us` or `ns`.
        timestamp_format: Of strings and of whole numbers like 20231114, as Python's `strptime` takes it; "" for ISO
            8601.
        time_zone: That of moments without one, by its name in the time zone database, such as `America/Sao_Paulo`.
        order_timestamp_unit: The same three for files of orders, which may write moments in their own way.
        order_timestamp_format: See there.
        order_time_zone: See there.
        item_timestamp_unit: The same three for `updated_at` in the catalogue.
        item_timestamp_format: See there.
        item_time_zone: See there.
        roles: Catalogue column (our name) -> `text`, `categorical`, `number` or `ignore`.
        split_by: `time`: the last part of the period is the test split; `query`: a share of the distinct queries is.
        test_fraction: That part of the period, or that share of the queries; between 0 and 1.
        attribution_hours: How long after a user's click an order without a request id still belongs to it.
        unclicked_below: A shown item counts as seen down to this many positions below the last click.
        max_unclicked: Unclicked items kept of a request, those nearest to a click first.
        max_positives: Positive items kept of a query, the most frequent first.
        min_count: A token or attribute value that is rarer than this gets no id of its own.
        max_vocabulary: Ids of a grain at most, the most frequent first.
        number_buckets: Quantile buckets of a number column.
        max_query_words: Words of a query that are used.
        max_field_words: Words of each text field of an item that are used.
        max_request_items: A request with more distinct items is dropped: it is no page that a person saw, but an id
            that many requests share.
        num_shards: Files of each stream; one file's share of the log must fit into a worker's memory. 0: one for each
            32 MB of the input, at least 8.
        max_rejected: The job fails when a larger share than this of the events or of the items is rejected.
    """

    event_columns: dict[str, str] = dataclasses.field(default_factory=dict)
    order_columns: dict[str, str] = dataclasses.field(default_factory=dict)
    item_columns: dict[str, str] = dataclasses.field(default_factory=dict)
    roles: dict[str, str] = dataclasses.field(default_factory=dict)
    event_names: dict[str, str] = dataclasses.field(default_factory=dict)
    cart_level: str = "clicked"
    timestamp_unit: str = "s"
    timestamp_format: str = ""
    time_zone: str = "UTC"
    order_timestamp_unit: str = "s"
    order_timestamp_format: str = ""
    order_time_zone: str = "UTC"
    item_timestamp_unit: str = "s"
    item_timestamp_format: str = ""
    item_time_zone: str = "UTC"
    split_by: str = "time"
    test_fraction: float = 0.2
    attribution_hours: float = 24.0
    unclicked_below: int = 3
    max_unclicked: int = 16
    max_positives: int = 1000
    min_count: int = 2
    max_vocabulary: int = 200_000
    number_buckets: int = 10
    max_query_words: int = 32
    max_field_words: int = 64
    max_request_items: int = 10_000
    num_shards: int = 0
    max_rejected: float = 0.01

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, field.type, getattr(self, field.name))
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise CommandError(
                    f"{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.test_fraction < 1:
            raise CommandError(
                f"test_fraction must lie between 0 and 1, got {self.test_fraction}"
            )
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise CommandError(
                    f"{name} must be one of {_listed(choices)}, got {value!r}"
                )
        _check_zone("time_zone", self.time_zone)
        _check_zone("order_time_zone", self.order_time_zone)
        _check_zone("item_time_zone", self.item_time_zone)
        for source, mapping, known in (
            ("event", self.event_columns, EVENT_COLUMNS),
            ("order", self.order_columns, ORDER_FIELDS),
        ):
            if unknown := sorted(mapping.keys() - set(known)):
                raise CommandError(
                    f"{source}_columns names {_listed(unknown)}; {source}s have {_listed(known)}"
                )
        for name, written in (
            ("timestamp_format", self.timestamp_format),
            ("order_timestamp_format", self.order_timestamp_format),
            ("item_timestamp_format", self.item_timestamp_format),
        ):
            if "%Z" in written:
                raise CommandError(
                    f"{name} must not hold %Z, whose meaning depends on the machine: write UTC or GMT in its place if "
                    "all moments have that, or %z for an offset"
                )
        columns = [
            self.item_columns.get(name, name)
            for name in {"item_id", "title", *self.item_columns}
        ]
        if twice := sorted(name for name in columns if columns.count(name) > 1):
            raise CommandError(
                f"item_columns gives the column {twice[0]} two names; give it one"
            )
        for name, kind in self.event_names.items():
            if kind not in KINDS:
                raise CommandError(
                    f"the event {name} must be one of {_listed(KINDS)}, got {kind!r}"
                )
        for column, role in self.roles.items():
            if role not in ROLES:
                raise CommandError(
                    f"the role of column {column} must be one of {_listed(ROLES)}, got {role!r}"
                )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a JSON file whose fields are this class's attributes; those it leaves out keep their defaults.

        Raises:
            CommandError: it is no JSON object, or names an unknown field, or a value is of the wrong type or range.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as e:
            raise CommandError(f"config {path} is not valid JSON: {e}") from None
        if not isinstance(values, dict):
            raise CommandError(
                f"config {path} must hold one JSON object, got {type(values).__name__}"
            )
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(values.keys() - set(known)):
            raise CommandError(
                f"the config names {_listed(unknown)}, which it does not have; it has {_listed(known)}"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _check_type(name: str, wanted: Any, value: Any) -> None:
    if wanted is int or wanted is str:
        good = type(value) is wanted
    elif wanted is float:
        good = type(value) in (int, float) and abs(value) <= sys.float_info.max
    else:
        good = isinstance(value, dict) and all(
            type(part) is str for pair in value.items() for part in pair
        )
    if not good:
        kind = (
            "an object of strings"
            if wanted not in (int, float, str)
            else wanted.__name__
        )
        raise CommandError(f"{name} must be {kind}, got {value!r}")


def _check_zone(name: str, zone: str) -> None:
    try:
        zoneinfo.ZoneInfo(zone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise CommandError(
            f"{name} must be a name of the time zone database, such as Europe/Berlin, got {zone!r}"
        ) from None


def _listed(names: Any) -> str:
    return ", ".join(names)
