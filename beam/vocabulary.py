"""Vocabularies: which tokens and attribute values get ids, counted over the catalogue and the train queries."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import tensorflow as tf

from beam.items import attribute_column
from tfrs_mmse import text
from tfrs_mmse.schema import GrainKind

COUNTS: dict[str, type[pl.DataType]] = {
    "grain": pl.String,
    "entry": pl.String,
    "number": pl.UInt64,
}
_BATCH = 4096

Vocabulary = tuple[str, list[str]]  # grain, entries in the order of their ids


def count_tokens(
    texts: pl.Series, numbers: pl.Series | None = None, *, max_words: int
) -> pl.DataFrame:
    """Counts the tokens of every text grain: a table of `COUNTS`.

    Args:
        texts: Raw or folded texts.
        numbers: How often each text counts; once by default.
        max_words: Words of a text that are used.
    """
    numbers = (
        pl.Series([1], dtype=pl.UInt64).new_from_index(0, len(texts))
        if numbers is None
        else numbers
    )
    counts = []
    for start in range(0, len(texts), _BATCH):
        batch = tf.constant(texts[start : start + _BATCH].to_list())
        weights = numbers[start : start + _BATCH].cast(pl.UInt64).to_numpy()
        for grain, tokens in text.text_grains(
            text.fold(batch), max_words=max_words
        ).items():
            entries = pl.Series(
                "entry", tokens.flat_values.numpy().tolist(), pl.Binary
            ).cast(pl.String)
            rows = pl.DataFrame(
                [
                    entries,
                    pl.Series(
                        "number", weights[tokens.value_rowids().numpy()], pl.UInt64
                    ),
                ]
            )
            counts.append(
                rows.group_by("entry")
                .agg(pl.col("number").sum())
                .select(pl.lit(grain).alias("grain"), "entry", "number")
            )
    return sum_counts(counts)


def count_attributes(
    items: pl.DataFrame, kinds: Mapping[str, GrainKind]
) -> pl.DataFrame:
    """Counts the values of every attribute: a table of `COUNTS`. Missing values are not counted.

    Numbers are rounded to three significant digits, so that there are few distinct ones however many items there are.

    Args:
        items: A table of items (`ItemLayout.table_schema`).
        kinds: The kind of each attribute by its grain's name.
    """
    counts = []
    for grain, kind in kinds.items():
        values = items[attribute_column(grain)].value_counts(name="number")
        distinct = values[:, 0]
        if kind is GrainKind.NUMBER:
            keys = [
                None if value != value else repr(float(f"{value:.3g}"))
                for value in distinct.to_list()
            ]
        else:
            folded = text.folded_key(tf.constant(distinct.to_list(), tf.string)).numpy()
            keys = [key.decode("utf-8") or None for key in folded]
        counts.append(
            pl.DataFrame(
                {
                    "grain": grain,
                    "entry": pl.Series(keys, dtype=pl.String),
                    "number": values["number"].cast(pl.UInt64),
                }
            )
        )
    return sum_counts(counts)


def sum_counts(counts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Adds up tables of `COUNTS`."""
    together = pl.concat([pl.DataFrame(schema=COUNTS), *counts])
    summed = together.filter(pl.col("entry").is_not_null()).group_by("grain", "entry")
    return summed.agg(pl.col("number").sum()).select(*COUNTS)


def most_frequent(
    counts: pl.DataFrame, *, min_count: int, max_entries: int
) -> pl.DataFrame:
    """The entries that may get ids: of each grain the most frequent first, then by alphabet.

    Whatever shares of the entries it is applied to before, it gives the same for the whole.
    """
    return (
        counts.filter(pl.col("number") >= min_count)
        .sort("grain", "number", "entry", descending=[False, True, False])
        .group_by("grain", maintain_order=True)
        .head(max_entries)
        .select(*COUNTS)
    )


def quantile_boundaries(
    counts: Iterable[tuple[float, int]], num_buckets: int
) -> list[float]:
    """The inner boundaries that cut values into buckets of about the same size, distinct and ascending.

    Boundary k of n - 1 is the value before which, in sorted order, the share k / n of all values stands.

    Args:
        counts: Distinct values and how often each occurs.
        num_buckets: n.
    """
    ordered = sorted(counts)
    if not ordered:
        return []
    ends = np.cumsum([number for _, number in ordered])
    ranks = [k * int(ends[-1]) // num_buckets for k in range(1, num_buckets)]
    chosen = np.unique(np.searchsorted(ends, ranks, side="right"))
    return [ordered[index][0] for index in chosen]


def vocabularies(
    counts: pl.DataFrame, kinds: Mapping[str, GrainKind], *, number_buckets: int
) -> list[Vocabulary]:
    """The vocabulary of every grain, empty where nothing was counted.

    Args:
        counts: What `most_frequent` gave for all text and categorical grains, and all counts of the numbers.
        kinds: The kind of every grain.
        number_buckets: Quantile buckets of a number column.
    """
    entries: list[Vocabulary] = []
    for grain, kind in kinds.items():
        of_grain = counts.filter(pl.col("grain") == grain)
        if kind is GrainKind.NUMBER:
            pairs = zip(
                of_grain["entry"].cast(pl.Float64).to_list(),
                of_grain["number"].to_list(),
                strict=True,
            )
            entries.append(
                (
                    grain,
                    [
                        repr(boundary)
                        for boundary in quantile_boundaries(pairs, number_buckets)
                    ],
                )
            )
        else:
            entries.append((grain, of_grain["entry"].to_list()))
    return entries


def vocabulary_text(entries: Sequence[str]) -> str:
    """The file of a vocabulary: one entry a line."""
    return "".join(f"{entry}\n" for entry in entries)
