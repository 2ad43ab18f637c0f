"""Levels and joins by one Polars program: how fast the same tables can be had by somebody who needs no more.

    python -m benchmarks.preprocess.with_polars --events 'log/events-*.jsonl' --items log/items.jsonl --output tables

It reads the log that `beam.simulate` writes, attributes orders, gives each item of a request its level, keeps the
catalogue's items, applies the policies, folds and splits, finds known positives and contested items, counts the log
sampling probabilities, and writes `train.parquet`, `test.parquet` (one row a request, its items and all their fields
as lists) and `items.parquet`.

It does less than `beam.preprocess`: queries are folded by lower-casing, which is enough for the simulator's; there are
no tokens, vocabularies and ids, no TFRecords; no row may be broken, and none is accounted for. It holds the whole log
in the memory of one process, with a thread on each core.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from beam.config import PreprocessConfig
from tfrs_mmse import cli
from tfrs_mmse.schema import SPLITS, TRAIN, Level

_EVENTS = {
    "event": pl.Categorical,
    "request_id": pl.String,
    "timestamp": pl.Int64,
    "query": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "user_id": pl.String,
}
_LEVELS = {
    "impression": Level.UNCLICKED,
    "click": Level.CLICKED,
    "order": Level.ORDERED,
}
_ITEM_FIELDS = [
    "title",
    "brand",
    "category",
    "color",
    "material",
    "description",
    "price",
]
_SLOT = ["item_id", "level", "position", "log_probability", *_ITEM_FIELDS]

_IS_UNCLICKED = pl.col("level") == Level.UNCLICKED


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Writes the tables and prints what is in each split."""
    parser = cli.argument_parser("benchmarks.preprocess.with_polars", __doc__)
    parser.add_argument("--events", required=True, metavar="GLOB")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    splits = write_tables(args.events, args.items, args.output, PreprocessConfig())
    cli.print_result({"splits": splits})


def write_tables(
    events: str, items: Path, output: Path, config: PreprocessConfig
) -> dict[str, dict[str, int]]:
    """Writes the three tables.

    Args:
        events: A pattern of JSONL files.
        items: A JSONL file.
        output: A directory that exists.
        config: The configuration; columns, roles and names in it are not used.

    Returns:
        For each split the number of requests, of distinct queries, and of items by level.
    """
    catalogue = pl.read_ndjson(items).select("item_id", *_ITEM_FIELDS)
    catalogue = catalogue.unique("item_id", keep="first", maintain_order=True)
    log = pl.scan_ndjson(events, schema=_EVENTS).with_columns(
        level=pl.col("event").replace_strict(_LEVELS, return_dtype=pl.UInt8)
    )
    sightings = attributed(log.drop("event").collect(engine="streaming"), config)
    slots = requests_of(sightings, catalogue, config)
    moments = slots["timestamp"]
    length = moments.max() - moments.min() if slots.height else 0  # type: ignore[operator]
    test_start = moments.min() + (1 - config.test_fraction) * length  # type: ignore[operator]
    slots = slots.with_columns(is_train=pl.col("timestamp") < test_start)
    slots, positives = known_positives(slots, config)

    train = slots.lazy().filter("is_train")
    share = (pl.len() / int(slots["is_train"].sum())).log().cast(pl.Float32)
    shares = train.group_by("item_id").agg(log_probability=share)
    fields = catalogue.lazy().join(shares, on="item_id", how="left")
    fields = fields.with_columns(pl.col("log_probability").fill_null(float("-inf")))
    catalogue = fields.collect()
    catalogue.write_parquet(output / "items.parquet")
    return {
        split: _write_split(
            slots.filter(pl.col("is_train") == (split == TRAIN)),
            catalogue,
            positives,
            output / f"{split}.parquet",
        )
        for split in SPLITS
    }


def attributed(log: pl.DataFrame, config: PreprocessConfig) -> pl.DataFrame:
    """The events of the log that belong to a request: an order without one to the user's latest click on its item."""
    of_request = log.filter(pl.col("request_id").is_not_null())
    clicks = (
        of_request.lazy()
        .filter(pl.col("level") == Level.CLICKED, pl.col("user_id").is_not_null())
        .group_by("user_id", "item_id", "timestamp")
        .agg(pl.col("request_id").max())
        .sort("timestamp")
    )
    orders = (
        log.lazy()
        .filter(pl.col("request_id").is_null(), pl.col("user_id").is_not_null())
        .drop("request_id")
        .sort("timestamp")
        .join_asof(
            clicks,
            on="timestamp",
            by=["user_id", "item_id"],
            tolerance=int(config.attribution_hours * 3600),
            check_sortedness=False,
        )
        .filter(pl.col("request_id").is_not_null())
        .select(log.columns)
        .collect()
    )
    return pl.concat([of_request, orders])


def requests_of(
    sightings: pl.DataFrame, catalogue: pl.DataFrame, config: PreprocessConfig
) -> pl.DataFrame:
    """One row for each item of each request that can be learned from, after the unclicked policy."""
    rows = sightings.lazy()
    earliest = pl.col("timestamp") == pl.col("timestamp").min()
    queries = (
        rows.filter(pl.col("query").is_not_null())
        .group_by("request_id")
        .agg(pl.col("query").filter(earliest).min().str.to_lowercase())
    )
    moments = rows.group_by("request_id").agg(pl.col("timestamp").min())
    clicked = pl.when(~_IS_UNCLICKED).then("position")
    slots = (
        rows.group_by("request_id", "item_id")
        .agg(pl.col("level").max(), pl.col("position").min())
        .filter(pl.len().over("request_id") <= config.max_request_items)
        .join(catalogue.lazy().select("item_id"), on="item_id", how="semi")
        .filter((~_IS_UNCLICKED).any().over("request_id"))
        .join(queries, on="request_id")
        .join(moments, on="request_id")
        .sort("request_id", "position")
        .with_columns(
            last=clicked.max().over("request_id"),
            before=clicked.forward_fill().over("request_id"),
            after=clicked.backward_fill().over("request_id"),
        )
        .filter(
            ~_IS_UNCLICKED
            | (pl.col("position") <= pl.col("last") + config.unclicked_below).fill_null(
                True
            )
        )
        .with_columns(
            distance=pl.min_horizontal(
                pl.col("position") - pl.col("before"),
                pl.col("after") - pl.col("position"),
            )
        )
        .sort("request_id", "distance", "position", "item_id", nulls_last=True)
        .filter(
            ~_IS_UNCLICKED
            | (_IS_UNCLICKED.cum_sum().over("request_id") <= config.max_unclicked)
        )
    )
    return slots.drop("last", "before", "after", "distance").collect()


def known_positives(
    slots: pl.DataFrame, config: PreprocessConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The slots less what is contested, and for each query the items that it clicked or ordered in the train split."""
    train = slots.lazy().filter("is_train")
    pairs = (
        train.filter(~_IS_UNCLICKED)
        .group_by("query", "item_id")
        .agg(pl.len().alias("number"))
        .collect()
    )
    positives = (
        pairs.sort("query", "number", "item_id", descending=[False, True, False])
        .group_by("query", maintain_order=True)
        .head(config.max_positives)
        .group_by("query")
        .agg(pl.col("item_id").sort().alias("positives"))
    )
    contested = pl.col("is_train") & _IS_UNCLICKED & pl.col("number").is_not_null()
    marked = slots.join(pairs, on=["query", "item_id"], how="left")
    return marked.filter(~contested).drop("number"), positives


def _write_split(
    slots: pl.DataFrame, catalogue: pl.DataFrame, positives: pl.DataFrame, path: Path
) -> dict[str, int]:
    """Writes the requests of a split, and counts them."""
    requests = (
        slots.lazy()
        .sort("request_id", -pl.col("level").cast(pl.Int8), "position", "item_id")
        .join(catalogue.lazy(), on="item_id", how="left", maintain_order="left")
        .group_by("request_id", maintain_order=True)
        .agg(pl.col("query").first(), pl.col(_SLOT))
        .join(positives.lazy(), on="query", how="left")
        .with_columns(pl.col("positives").fill_null([]))
    )
    requests.sink_parquet(path)
    counts: dict[str, Any] = {
        "requests": slots["request_id"].n_unique(),
        "queries": slots["query"].n_unique(),
    }
    for level in (Level.UNCLICKED, Level.CLICKED, Level.ORDERED):
        counts[level.name.lower()] = int((slots["level"] == level).sum())
    return counts


if __name__ == "__main__":
    sys.exit(main())
