"""Encodes requests and items as `tf.train.Example`; the layout is in `tfrs_mmse.schema`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from beam.featurize import ids_column, lengths_column
from beam.items import text_column
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind, Level

_REQUESTS = 1024  # encoded at once


def encode_items(items: pl.DataFrame, spec: schema.FeatureSpec) -> Iterator[bytes]:
    """The record of each item, in the order of the rows.

    Args:
        items: A table of encoded items with their texts.
        spec: The feature spec.
    """
    slots = items.with_columns(level=pl.lit(int(Level.RANDOM)), position=pl.lit(-1))
    fields = [pl.col(column) for column in map(text_column, spec.text_fields)]
    filled = pl.concat_list([pl.when(field != "").then(field) for field in fields])
    texts = items.select(filled.list.drop_nulls().list.join("\n"))[:, 0].to_list()
    titles = items[text_column(spec.text_fields[0])].to_list()
    for start in range(0, items.height, _REQUESTS):
        columns = _SlotColumns(slots[start : start + _REQUESTS], spec)
        for n in range(min(_REQUESTS, items.height - start)):
            example = tf.train.Example()
            columns.add(example, n, n + 1)
            _add_strings(example, schema.TITLE, [titles[start + n]])
            _add_strings(example, schema.TEXT, [texts[start + n]])
            yield example.SerializeToString(deterministic=True)


def encode_requests(
    requests: pl.DataFrame,
    slots: pl.DataFrame,
    spec: schema.FeatureSpec,
    ids: Mapping[str, pl.Series],
) -> Iterator[bytes]:
    """The record of each request, in the order of the rows.

    Args:
        requests: One row a request: `query` (folded), `positives` (a list of ids) and `num_slots`.
        slots: The slots of all requests in the same order, with the features of their items.
        spec: The feature spec.
        ids: What `query_ids` gave for the requests' queries.
    """
    ends = requests["num_slots"].cum_sum().to_list()
    for start in range(0, requests.height, _REQUESTS):
        batch = requests[start : start + _REQUESTS]
        first = ends[start - 1] if start else 0
        columns = _SlotColumns(slots[first : ends[start + batch.height - 1]], spec)
        queries = batch["query"].to_list()
        of_batch = {
            grain: lists[start : start + _REQUESTS].to_list()
            for grain, lists in ids.items()
        }
        begin = first
        for n, positives in enumerate(batch["positives"].to_list()):
            example = tf.train.Example()
            _add_strings(example, schema.QUERY, [queries[n]])
            _add_strings(example, schema.QUERY_POSITIVES, positives)
            for grain in spec.text_grains:
                _add_ints(
                    example, schema.query_feature(grain.name), of_batch[grain.name][n]
                )
            columns.add(example, begin - first, ends[start + n] - first)
            begin = ends[start + n]
            yield example.SerializeToString(deterministic=True)


def query_ids(
    queries: pl.Series, featurizer: features.Featurizer
) -> dict[str, pl.Series]:
    """The token ids of queries, a list for each, by grain."""
    ids = featurizer.query(tf.constant(queries.to_list(), tf.string))
    return {
        grain: pl.Series(grain, rows.to_list(), pl.List(pl.Int64))
        for grain, rows in ids.items()
    }


class _SlotColumns:
    """Every feature of some slots as one flat list, with the place where each slot's values end."""

    def __init__(self, slots: pl.DataFrame, spec: schema.FeatureSpec) -> None:
        """Args:
        slots: `item_id`, `level`, `position` and the columns of `featurize.features_schema`.
        spec: The feature spec.
        """
        one_each = np.ones(slots.height, np.int64)
        self._item_ids = [
            item_id.encode("utf-8") for item_id in slots["item_id"].to_list()
        ]
        self._log_probabilities = slots["log_probability"].to_list()
        self._ints: list[tuple[str, Sequence[Any], list[int]]] = []
        for name, column in ((schema.LEVEL, "level"), (schema.POSITION, "position")):
            self._add_column(name, slots[column], one_each)
        for grain in spec.grains:
            ids = slots[ids_column(grain.name)]
            if grain.kind is not GrainKind.TEXT:
                self._add_column(schema.item_feature(grain.name), ids, one_each)
                continue
            lengths = slots[lengths_column(grain.name)]
            for name, lists in (
                (schema.item_lengths(grain.name), lengths),
                (schema.item_feature(grain.name), ids),
            ):
                self._add_column(
                    name,
                    lists.explode(empty_as_null=False),
                    lists.list.len().to_numpy(),
                )

    def _add_column(self, name: str, flat: pl.Series, lengths: np.ndarray) -> None:
        ends = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
        self._ints.append((name, flat.to_list(), ends))

    def add(self, example: tf.train.Example, begin: int, end: int) -> None:
        """Adds slots `begin` to `end` to an example."""
        feature = example.features.feature
        feature[schema.ITEM_ID].bytes_list.value.extend(self._item_ids[begin:end])
        feature[schema.LOG_PROBABILITY].float_list.value.extend(
            self._log_probabilities[begin:end]
        )
        for name, flat, ends in self._ints:
            feature[name].int64_list.value.extend(flat[ends[begin] : ends[end]])


def _add_strings(example: tf.train.Example, name: str, values: Iterable[str]) -> None:
    example.features.feature[name].bytes_list.value.extend(
        [value.encode("utf-8") for value in values]
    )


def _add_ints(example: tf.train.Example, name: str, values: Iterable[int]) -> None:
    example.features.feature[name].int64_list.value.extend(values)
