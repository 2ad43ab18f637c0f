"""What the logs look like: counts that every step adds to, and `stats.json`, which is made of them."""

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from beam.buckets import sent
from beam.featurize import ids_column, lengths_column
from beam.items import attribute_column, text_column
from beam.tables import pack
from tfrs_mmse import schema
from tfrs_mmse.schema import GrainKind, Level

# How often something was seen: the name of a statistic, and one of its values.
STATISTICS: dict[str, type[pl.DataType]] = {
    "name": pl.String,
    "key": pl.String,
    "number": pl.Int64,
}
LEVELS = (Level.UNCLICKED, Level.CLICKED, Level.ORDERED)
LAST_POSITION = 99  # those further down are counted together with it


def of_slots(slots: pl.DataFrame) -> list[pl.DataFrame]:
    """Levels by position, of all requests, also those without a click: a table of `requests.SLOTS`."""
    shown = slots.with_columns(
        pl.col("position").clip(-1, LAST_POSITION).cast(pl.String)
    )
    counted = []
    for level in LEVELS:
        of_level = shown.filter(pl.col("level") == level)
        counted.append(_by(f"position/{level.name.lower()}", of_level["position"]))
    return counted


def of_requests(slots: pl.DataFrame) -> list[pl.DataFrame]:
    """Requests by day in UTC: a table of `requests.SLOTS`, whole requests."""
    seconds = slots.unique("request_id")["timestamp"].cast(pl.Int64)
    return [_by("day", pl.from_epoch(seconds, time_unit="s").dt.date().cast(pl.String))]


def of_queries(queries: pl.DataFrame) -> list[pl.DataFrame]:
    """Queries of the train split by how frequent they are, and all by their words: `query`, `num_train`."""
    train = queries.filter(pl.col("num_train") > 0)["num_train"]
    words = queries["query"].str.count_matches(r"\S+").cast(pl.String)
    frequency = _power(train)
    return [
        _by("query_frequency/queries", frequency),
        _by("query_frequency/requests", frequency, train.cast(pl.Int64)),
        _by("words/query", words),
    ]


def of_items(items: pl.DataFrame, spec: schema.FeatureSpec) -> list[pl.DataFrame]:
    """Items by how often train requests show them, their texts' lengths, unknown tokens and missing values.

    Args:
        items: Encoded items with their texts and `num_train`.
        spec: The feature spec.
    """
    counted = [_by("item_frequency/items", _power(items["num_train"].fill_null(0)))]
    attributes = {grain.name for grain in spec.attribute_grains}
    for number, field in enumerate(spec.text_fields):
        words = items[lengths_column(schema.TEXT_GRAINS[0])].list.get(number)
        counted.append(_by(f"words/{field}", words))
        if field not in attributes:
            missing = items[text_column(field)] == ""
            counted.append(_by(f"value/{field}", _named(missing, "missing", "known")))
    for grain in spec.grains:
        ids = items[ids_column(grain.name)]
        if grain.kind is GrainKind.TEXT:
            counted.append(_tokens(schema.ITEMS, grain.name, ids))
            continue
        values = items[attribute_column(grain.name)]
        missing = values.is_nan() if grain.kind is GrainKind.NUMBER else values == ""
        counted.append(
            _by(
                f"value/{grain.name}",
                _named(missing, "missing", _named(ids == 0, "rare", "known")),
            )
        )
    return counted


def of_query_tokens(
    split: str, requests: pl.DataFrame, spec: schema.FeatureSpec
) -> list[pl.DataFrame]:
    """Unknown tokens in the requests of a split.

    Args:
        split: Its name.
        requests: A row for each, with the ids of its query.
        spec: The feature spec.
    """
    return [
        _tokens(split, grain.name, requests[ids_column(grain.name)])
        for grain in spec.text_grains
    ]


def _tokens(of: str, grain: str, ids: pl.Series) -> pl.DataFrame:
    is_unknown = ids.explode().drop_nulls() == 0
    return _by(f"token/{of}/{grain}", _named(is_unknown, "unknown", "known"))


def _named(is_so: pl.Series, name: str, other: str | pl.Series) -> pl.Series:
    """A name for each row that is so, another one for each that is not."""
    others = pl.lit(other) if isinstance(other, str) else other
    return pl.select(pl.when(is_so).then(pl.lit(name)).otherwise(others))[:, 0]


def _power(numbers: pl.Series) -> pl.Series:
    """The largest power of two that is not above each number; 0 for 0."""
    exponents = numbers.cast(pl.Float64).log(2).floor().clip(0, 62)
    powers = pl.select(
        pl.when(numbers > 0).then(2.0**exponents).otherwise(0.0).cast(pl.Int64)
    )
    return powers[:, 0].cast(pl.String)


def _by(name: str, keys: pl.Series, numbers: pl.Series | None = None) -> pl.DataFrame:
    ones = pl.lit(1, pl.Int64) if numbers is None else numbers.cast(pl.Int64)
    rows = pl.DataFrame({"key": keys.cast(pl.String)}).with_columns(
        ones.alias("number")
    )
    summed = rows.group_by("key").agg(pl.col("number").sum())
    return summed.select(pl.lit(name).alias("name"), "key", "number")


def add_up(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Adds up tables of `STATISTICS`."""
    together = pl.concat([pl.DataFrame(schema=STATISTICS), *tables])
    return (
        together.group_by("name", "key").agg(pl.col("number").sum()).select(*STATISTICS)
    )


def sent_on(tables: Iterable[pl.DataFrame]) -> Iterator[Any]:
    """Tables of `STATISTICS`, added up, on their way to the one bucket that adds up all."""
    return sent("statistics", [(0, pack(add_up(tables)))])


def summary(counts: pl.DataFrame) -> dict[str, Any]:
    """`stats.json`: statistic -> value -> number, nested by the parts of its name; numbers and days in order."""
    nested: dict[str, Any] = {}
    keyed = counts.with_columns(_order=pl.col("key").cast(pl.Int64, strict=False))
    for name, key, number in (
        keyed.sort("name", "_order", "key").select(*STATISTICS).rows()
    ):
        inner = nested
        for part in name.split("/"):
            inner = inner.setdefault(part, {})
        inner[key] = number
    return nested
