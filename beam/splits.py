"""Train and test: by the moment of a request, or by its folded query."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
import polars as pl
import tensorflow as tf

from beam.config import PreprocessConfig
from beam.requests import SLOTS
from tfrs_mmse import text

# Slots with a folded query, whose split is known.
SPLIT_SLOTS: dict[str, type[pl.DataType]] = {**SLOTS, "is_train": pl.Boolean}


def is_test_query(folded: str, test_fraction: float) -> bool:
    """Whether a folded query is in the test split when queries are split: the same answer on every run and machine.

    By query and not by request, so that no request of a test query is ever trained on: test queries are unseen.
    """
    digest = hashlib.sha256(folded.encode("utf-8")).hexdigest()
    return int(digest[:8], 16) / 2**32 < test_fraction


class Period(NamedTuple):
    """From the earliest to the latest request, in seconds since 1970."""

    start: float
    end: float

    def test_start(self, test_fraction: float) -> float:
        """The moment from which on requests are in the test split when time is split."""
        return self.start + (1 - test_fraction) * (self.end - self.start)


class FindPeriod(beam.CombineFn):
    """The period that holds all these periods."""

    def create_accumulator(self) -> tuple[float, float]:
        return float("inf"), float("-inf")

    def add_input(
        self, mutable_accumulator: tuple[float, float], element: tuple[float, float]
    ) -> tuple[float, float]:
        return min(mutable_accumulator[0], element[0]), max(
            mutable_accumulator[1], element[1]
        )

    def merge_accumulators(
        self, accumulators: Iterable[tuple[float, float]]
    ) -> tuple[float, float]:
        starts, ends = zip(*accumulators, strict=True)
        return min(starts), max(ends)

    def extract_output(self, accumulator: tuple[float, float]) -> Period:
        return Period(*accumulator)


def fold_queries(slots: pl.DataFrame) -> pl.DataFrame:
    """Folds the queries of slots: `Ação  Já` and `acao ja` are one query."""
    if not slots.height:
        return slots
    typed = slots["query"].unique()
    folded = text.folded_key(tf.constant(typed.to_list())).numpy()
    by_typed = pl.Series([query.decode("utf-8") for query in folded])
    return slots.with_columns(
        slots["query"].replace_strict(typed, by_typed).alias("query")
    )


def split(
    slots: pl.DataFrame, config: PreprocessConfig, period: Period
) -> pl.DataFrame:
    """Says which split each slot's request is in: a table of `SPLIT_SLOTS`.

    Args:
        slots: A table of `SLOTS` with folded queries.
        config: The configuration.
        period: From the earliest to the latest request of all.
    """
    if config.split_by == "time":
        return slots.with_columns(
            is_train=pl.col("timestamp") < period.test_start(config.test_fraction)
        )
    queries = slots.select(pl.col("query").unique())
    in_train = [
        not is_test_query(query, config.test_fraction)
        for query in queries["query"].to_list()
    ]
    by_query = queries.with_columns(pl.Series("is_train", in_train, pl.Boolean))
    return slots.join(by_query, on="query", how="left")
