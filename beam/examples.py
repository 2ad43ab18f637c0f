"""Encodes requests and items as `tf.train.Example`; the layout is in `tfrs_mmse.schema`."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from beam import wire
from beam.featurize import ids_column, lengths_column
from beam.items import attribute_column, text_column
from tfrs_mmse import schema
from tfrs_mmse.schema import GrainKind, Level

_BATCH = 1024  # records that are put together at a time


def slot_schema(
    spec: schema.FeatureSpec,
) -> dict[str, pl.DataType | type[pl.DataType]]:
    """The columns of `slot_pieces`: what an item adds to a request that shows it."""
    return {
        "item_id": pl.String,
        "log_probability": pl.Float32,
        **dict.fromkeys(_id_features(spec), pl.Binary()),
    }


def _id_features(spec: schema.FeatureSpec) -> dict[str, str]:
    """The features that hold an item's ids, and the columns of encoded items that they are made of."""
    columns = {schema.item_feature(g.name): ids_column(g.name) for g in spec.grains}
    lengths = {
        schema.item_lengths(g.name): lengths_column(g.name)
        for g in spec.grains
        if g.kind is GrainKind.TEXT
    }
    return columns | lengths


def slot_pieces(items: pl.DataFrame, spec: schema.FeatureSpec) -> pl.DataFrame:
    """What each item adds to the lists of a request that shows it, as bytes: a table of `slot_schema`.

    Args:
        items: A table of encoded items with their `log_probability`.
        spec: The feature spec.
    """
    return items.select("item_id", "log_probability").with_columns(
        wire.varints(items[column]).alias(name)
        for name, column in _id_features(spec).items()
    )


def query_pieces(queries: pl.DataFrame, spec: schema.FeatureSpec) -> pl.DataFrame:
    """Adds to each query the bytes that it adds to its requests: a column for each feature.

    Args:
        queries: A table of encoded queries with their `positives`.
        spec: The feature spec.
    """
    return queries.with_columns(
        wire.strings(queries["positives"]).alias(schema.QUERY_POSITIVES),
        *(
            wire.varints(queries[ids_column(grain.name)]).alias(
                schema.query_feature(grain.name)
            )
            for grain in spec.text_grains
        ),
    )


def encode_items(
    items: pl.DataFrame, pieces: pl.DataFrame, spec: schema.FeatureSpec
) -> Iterator[bytes]:
    """The record of each item, in the order of the rows.

    Args:
        items: A table of items with their texts and attributes.
        pieces: Their `slot_pieces`.
        spec: The feature spec.
    """
    fields = [pl.col(column) for column in map(text_column, spec.text_fields)]
    filled = pl.concat_list([pl.when(field != "").then(field) for field in fields])
    slots = pieces.with_columns(
        items[text_column(spec.text_fields[0])].alias(schema.TITLE),
        items.select(filled.list.drop_nulls().list.join("\n"))[:, 0].alias(schema.TEXT),
        level=pl.lit(int(Level.RANDOM)),
        position=pl.lit(-1),
    )
    for start in range(0, items.height, _BATCH):
        batch = slots[start : start + _BATCH]
        each = np.arange(1, batch.height + 1)
        own = {
            name: wire.strings_feature(wire.runs(wire.strings(batch[name]), each))
            for name in (schema.TITLE, schema.TEXT)
        }
        for grain in spec.attribute_grains:
            values = items[attribute_column(grain.name)][start : start + _BATCH]
            own[schema.item_value(grain.name)] = (
                wire.floats_feature(wire.runs(wire.floats(values), each))
                if grain.kind is GrainKind.NUMBER
                else wire.strings_feature(wire.runs(wire.strings(values), each))
            )
        yield from wire.examples(_slot_features(batch, each, spec) | own).to_pylist()


def encode_requests(
    requests: pl.DataFrame, slots: pl.DataFrame, spec: schema.FeatureSpec
) -> Iterator[bytes]:
    """The record of each request, in the order of the rows.

    Args:
        requests: One row a request: `query` (folded), its `query_pieces`, and `num_slots`.
        slots: The slots of all requests in the same order: `level`, `position` and the `slot_pieces` of their items.
        spec: The feature spec.
    """
    names = [schema.query_feature(grain.name) for grain in spec.text_grains]
    ends = np.append(0, requests["num_slots"].cast(pl.Int64).cum_sum())
    for start in range(0, requests.height, _BATCH):
        batch = requests[start : start + _BATCH]
        each = np.arange(1, batch.height + 1)
        first, *of_batch = ends[start : start + batch.height + 1].tolist()
        own = {
            schema.QUERY: wire.strings(batch["query"]),
            schema.QUERY_POSITIVES: batch[schema.QUERY_POSITIVES],
        }
        features = {
            name: wire.strings_feature(wire.runs(column, each))
            for name, column in own.items()
        }
        for name in names:
            features[name] = wire.ints_feature(wire.runs(batch[name], each))
        its_slots = slots[first : of_batch[-1]]
        features |= _slot_features(its_slots, np.array(of_batch) - first, spec)
        yield from wire.examples(features).to_pylist()


def _slot_features(
    slots: pl.DataFrame, ends: np.ndarray, spec: schema.FeatureSpec
) -> dict[str, wire.Messages]:
    """The features that slots make together.

    Args:
        slots: `level`, `position` and the columns of `slot_schema`.
        ends: Where the slots of each record end.
        spec: The feature spec.
    """
    ints = {
        schema.LEVEL: wire.varints(slots["level"]),
        schema.POSITION: wire.varints(slots["position"]),
        **{name: slots[name] for name in _id_features(spec)},
    }
    item_id = wire.runs(wire.strings(slots["item_id"]), ends)
    log_probability = wire.runs(wire.floats(slots["log_probability"]), ends)
    return {
        schema.ITEM_ID: wire.strings_feature(item_id),
        schema.LOG_PROBABILITY: wire.floats_feature(log_probability),
        **{
            name: wire.ints_feature(wire.runs(pieces, ends))
            for name, pieces in ints.items()
        },
    }
