"""Encodes requests and items as `tf.train.Example`; the layout is in `tfrs_mmse.schema`."""

from collections.abc import Iterator

import polars as pl

from beam import wire
from beam.featurize import ids_column, lengths_column
from beam.items import text_column
from beam.wire import Pieces
from tfrs_mmse import schema
from tfrs_mmse.schema import GrainKind, Level


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
        items: A table of items with their texts.
        pieces: Their `slot_pieces`.
        spec: The feature spec.
    """
    slots = _Slots(
        pieces.with_columns(level=pl.lit(int(Level.RANDOM)), position=pl.lit(-1)), spec
    )
    fields = [pl.col(column) for column in map(text_column, spec.text_fields)]
    filled = pl.concat_list([pl.when(field != "").then(field) for field in fields])
    texts = items.select(filled.list.drop_nulls().list.join("\n"))[:, 0]
    columns = {
        schema.TITLE: Pieces(wire.strings(items[text_column(spec.text_fields[0])])),
        schema.TEXT: Pieces(wire.strings(texts)),
    }
    for n in range(items.height):
        own = {
            name: wire.strings_feature(column.run(n, n + 1))
            for name, column in columns.items()
        }
        yield wire.example(slots.features(n, n + 1) | own)


def encode_requests(
    requests: pl.DataFrame, slots: pl.DataFrame, spec: schema.FeatureSpec
) -> Iterator[bytes]:
    """The record of each request, in the order of the rows.

    Args:
        requests: One row a request: `query` (folded), its `query_pieces`, and `num_slots`.
        slots: The slots of all requests in the same order: `level`, `position` and the `slot_pieces` of their items.
        spec: The feature spec.
    """
    query = Pieces(wire.strings(requests["query"]))
    positives = Pieces(requests[schema.QUERY_POSITIVES])
    names = [schema.query_feature(grain.name) for grain in spec.text_grains]
    ids = {name: Pieces(requests[name]) for name in names}
    of_slots = _Slots(slots, spec)
    begin = 0
    for n, num_slots in enumerate(requests["num_slots"].to_list()):
        own = {
            schema.QUERY: wire.strings_feature(query.run(n, n + 1)),
            schema.QUERY_POSITIVES: wire.strings_feature(positives.run(n, n + 1)),
        }
        for name, column in ids.items():
            own[name] = wire.ints_feature(column.run(n, n + 1))
        yield wire.example(of_slots.features(begin, begin + num_slots) | own)
        begin += num_slots


class _Slots:
    """The features of any run of slots."""

    def __init__(self, slots: pl.DataFrame, spec: schema.FeatureSpec) -> None:
        """Args:
        slots: `level`, `position` and the columns of `slot_schema`.
        spec: The feature spec.
        """
        self._item_id = Pieces(wire.strings(slots["item_id"]))
        self._log_probability = Pieces(wire.floats(slots["log_probability"]))
        self._ints = {
            schema.LEVEL: Pieces(wire.varints(slots["level"])),
            schema.POSITION: Pieces(wire.varints(slots["position"])),
            **{name: Pieces(slots[name]) for name in _id_features(spec)},
        }

    def features(self, begin: int, end: int) -> dict[str, bytes]:
        """Those that slots `begin` to `end` make together, as `wire` encodes them."""
        features = {
            schema.ITEM_ID: wire.strings_feature(self._item_id.run(begin, end)),
            schema.LOG_PROBABILITY: wire.floats_feature(
                self._log_probability.run(begin, end)
            ),
        }
        for name, column in self._ints.items():
            features[name] = wire.ints_feature(column.run(begin, end))
        return features
