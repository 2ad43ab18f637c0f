"""What the train split knows about each query: the items that it clicked or ordered there.

A popular query has requests in every bucket. So a bucket of requests sends what it knows about each of its queries,
once, to the bucket of that query, which adds up what all of them know and answers those that asked.
"""

import polars as pl

from tfrs_mmse.schema import Level

# A query in the requests of one bucket.
QUERIES: dict[str, type[pl.DataType]] = {
    "asker": pl.UInt32,  # the bucket of requests
    "query": pl.String,
    "num_train": pl.UInt32,  # requests
    "num_test": pl.UInt32,
}
# An item of a query's train requests in one bucket.
PAIRS: dict[str, type[pl.DataType]] = {
    "asker": pl.UInt32,
    "query": pl.String,
    "item_id": pl.String,
    "num_positive": pl.UInt32,  # requests that clicked or ordered it
    "is_unclicked": pl.Boolean,  # in any request
}
POSITIVES: dict[str, pl.DataType | type[pl.DataType]] = {
    "query": pl.String,
    "positives": pl.List(pl.String),
}
CONTESTED: dict[str, type[pl.DataType]] = {"query": pl.String, "item_id": pl.String}


def ask(slots: pl.DataFrame, asker: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a bucket of requests knows about its queries.

    Args:
        slots: A table of `SPLIT_SLOTS`: whole requests.
        asker: The bucket.

    Returns:
        A table of `QUERIES` and one of `PAIRS`.
    """
    bucket = pl.lit(asker, pl.UInt32).alias("asker")
    requests = slots.unique("request_id")
    queries = requests.group_by("query").agg(
        pl.col("is_train").sum().cast(pl.UInt32).alias("num_train"),
        (~pl.col("is_train")).sum().cast(pl.UInt32).alias("num_test"),
    )
    is_positive = pl.col("level") > Level.UNCLICKED
    pairs = (
        slots.filter(pl.col("is_train"))
        .group_by("query", "item_id")
        .agg(
            is_positive.sum().cast(pl.UInt32).alias("num_positive"),
            (~is_positive).any().alias("is_unclicked"),
        )
    )
    return queries.select(bucket, "query", "num_train", "num_test"), pairs.select(
        bucket, *list(PAIRS)[1:]
    )


def answer(
    queries: pl.DataFrame, pairs: pl.DataFrame, *, max_positives: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What all buckets together know about these queries, for each bucket that asked.

    Args:
        queries: A table of `QUERIES`: all that is known of these.
        pairs: A table of `PAIRS`: all of the same queries.
        max_positives: Positives of a query at most, the most frequent first, then by id.

    Returns:
        A table of `POSITIVES`, sorted by id, and one of `CONTESTED`, items that are unclicked in a train request and
        positive in another one; both with the column `asker`.
    """
    totals = (
        pairs.group_by("query", "item_id")
        .agg(pl.col("num_positive").sum())
        .filter(pl.col("num_positive") > 0)
    )
    positives = (
        totals.sort("query", -pl.col("num_positive").cast(pl.Int64), "item_id")
        .group_by("query", maintain_order=True)
        .head(max_positives)
        .group_by("query")
        .agg(pl.col("item_id").sort().alias("positives"))
    )
    answers = queries.select("asker", "query").join(positives, on="query", how="left")
    contested = pairs.filter(pl.col("is_unclicked")).join(
        totals, on=["query", "item_id"], how="semi"
    )
    return (
        answers.with_columns(pl.col("positives").fill_null([])),
        contested.select("asker", *CONTESTED),
    )


def is_contested(slots: pl.DataFrame, contested: pl.DataFrame) -> pl.Series:
    """Which slots are unclicked in a train request, while the query clicked or ordered their item in another one.

    Only train requests lose items by that; test requests are judged as they were.
    """
    marked = slots.join(
        contested.with_columns(_hit=True),
        on=list(CONTESTED),
        how="left",
        maintain_order="left",
    )
    is_unclicked = pl.col("is_train") & (pl.col("level") == Level.UNCLICKED)
    return marked.select(is_unclicked & pl.col("_hit").fill_null(False))[:, 0]
