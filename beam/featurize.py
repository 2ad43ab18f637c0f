"""Looks up the ids of items and queries, in batches, in the worker."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import tensorflow as tf

from beam.items import attribute_column, text_column
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind

_BATCH = 4096


def ids_column(grain: str) -> str:
    """Ids of an item, field by field, one after the other (text: a list), or its one id (attribute)."""
    return f"ids:{grain}"


def lengths_column(grain: str) -> str:
    """How many of a text grain's ids belong to each text field: a list of as many."""
    return f"lengths:{grain}"


def encode_items(
    items: pl.DataFrame, spec: schema.FeatureSpec, featurizer: features.Featurizer
) -> pl.DataFrame:
    """Adds the ids of every grain to a table of items.

    Args:
        items: A table of `ItemLayout.table_schema`.
        spec: The feature spec.
        featurizer: Built from the vocabularies.
    """
    return _in_batches(items, lambda batch: _encode_items(batch, spec, featurizer))


def encode_queries(
    queries: pl.DataFrame, spec: schema.FeatureSpec, featurizer: features.Featurizer
) -> pl.DataFrame:
    """Adds the ids of every text grain to a table of queries.

    Args:
        queries: A table with the column `query`.
        spec: The feature spec.
        featurizer: Built from the vocabularies.
    """
    return _in_batches(queries, lambda batch: _encode_queries(batch, spec, featurizer))


def _in_batches(
    rows: pl.DataFrame, encode: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.DataFrame:
    starts = range(0, max(rows.height, 1), _BATCH)
    return pl.concat([encode(rows[start : start + _BATCH]) for start in starts])


def _encode_queries(
    queries: pl.DataFrame, spec: schema.FeatureSpec, featurizer: features.Featurizer
) -> pl.DataFrame:
    ids = featurizer.query(tf.constant(queries["query"].to_list(), tf.string))
    return queries.with_columns(
        _lists(
            ids_column(grain.name),
            ids[grain.name].flat_values.numpy(),
            ids[grain.name].row_lengths().numpy(),
        )
        for grain in spec.text_grains
    )


def _encode_items(
    items: pl.DataFrame, spec: schema.FeatureSpec, featurizer: features.Featurizer
) -> pl.DataFrame:
    ids = featurizer.items(item_fields(items, spec))
    columns = []
    for grain in spec.grains:
        of_grain = ids[grain.name]
        name = ids_column(grain.name)
        if isinstance(of_grain, tf.RaggedTensor):  # [B, F, (ids)]
            lengths = (
                of_grain.values.row_lengths()
                .numpy()
                .reshape(items.height, len(spec.text_fields))
            )
            columns.append(
                _lists(name, of_grain.flat_values.numpy(), lengths.sum(axis=1))
            )
            num_fields = np.full(items.height, len(spec.text_fields))
            columns.append(
                _lists(lengths_column(grain.name), lengths.reshape(-1), num_fields)
            )
        else:
            columns.append(pl.Series(name, of_grain.numpy().astype(np.int32)))
    return items.with_columns(columns)


def item_fields(
    items: pl.DataFrame, spec: schema.FeatureSpec
) -> Mapping[str, tf.Tensor]:
    """The raw fields of items as `features.Featurizer.items` takes them: [B] tensors by name."""
    fields = {
        name: tf.constant(items[text_column(name)].to_list(), tf.string)
        for name in spec.text_fields
    }
    for grain in spec.attribute_grains:
        dtype = tf.float32 if grain.kind is GrainKind.NUMBER else tf.string
        fields[grain.name] = tf.constant(
            items[attribute_column(grain.name)].to_list(), dtype
        )
    return fields


def _lists(name: str, values: np.ndarray, lengths: np.ndarray) -> pl.Series:
    """A column of lists from their values, one list after the other, and their lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrow = pa.LargeListArray.from_arrays(offsets, values.astype(np.int32))
    return pl.Series(name, pl.from_arrow(arrow), pl.List(pl.Int32))
