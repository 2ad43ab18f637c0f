"""The train split as pairs of a query and an item that was clicked or ordered for it, as the other systems read them.

Written once from our own examples, so that all systems see the same positives, texts, vocabularies and items. Rows are
in the order of our records, which is a random one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from benchmarks.train.layout import (
    ITEM,
    ITEMS,
    PAIRS,
    QUERIES,
    TEXT,
    TEXT_PAIRS,
    Settings,
)
from tfrs_mmse import features, records, relevance, schema, streams
from tfrs_mmse.config import TrainConfig

_ROWS = 1024  # of a row group
_SHARDS = 8
_FROM_CONFIG = (
    "embedding_dim",
    "attribute_dim",
    "batch_size",
    "epochs",
    "learning_rate",
    "temperature",
    "initial_scale",
    "seed",
)


def write(examples: Path, folder: Path, config: TrainConfig) -> Settings:
    """Writes what the systems read.

    * `pairs.parquet`: a pair a row, the query's and the item's token ids as lists, and the item's row;
    * `pairs-*.tfrecord`: the same pairs as raw text, for a model that looks its tokens up itself;
    * `items.parquet`, `queries.parquet`: the catalogue and the held-out queries, with text and ids.

    Args:
        examples: Directory that `beam.preprocess` wrote.
        folder: Receives the files; made if it is not there.
        config: Gives the settings that the systems share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = schema.Manifest.read(examples)
    spec = manifest.features
    items = pa.concat_tables(_catalogue(examples, spec))
    pq.write_table(items, folder / ITEMS, row_group_size=_ROWS)
    _write_queries(examples, spec, folder)

    key = records.item_key(tf.constant(items[schema.ITEM_ID].to_pylist())).numpy()
    order = np.argsort(key)
    of_items = items.drop_columns([schema.ITEM_ID, TEXT])
    texts, values = items[TEXT].to_pylist(), _attribute_values(items, spec)
    writers = [
        tf.io.TFRecordWriter(str(folder / TEXT_PAIRS.replace("*", f"{shard:05d}")))
        for shard in range(_SHARDS)
    ]
    written = 0
    with pq.ParquetWriter(folder / PAIRS, _pair_schema(of_items.schema, spec)) as file:
        for query, batch in _requests(examples, spec):
            row, item_key = _positives(batch)
            item = order[np.searchsorted(key[order], item_key)]
            pairs = _query_columns(batch.query_ids, spec).take(row)
            for column in of_items.column_names:
                pairs = pairs.append_column(column, of_items[column].take(item))
            file.write_table(
                pairs.append_column(ITEM, pa.array(item, pa.int32())).cast(file.schema)
            )
            for r, i in zip(row, item, strict=True):
                example = _text_example(
                    query[r], texts[i], {name: values[name][i] for name in values}, i
                )
                writers[written % _SHARDS].write(example.SerializeToString())
                written += 1
    for writer in writers:
        writer.close()
    settings = Settings(
        examples=str(examples),
        text_grains={g.name: g.size for g in spec.text_grains},
        attribute_grains={g.name: g.size for g in spec.attribute_grains},
        num_pairs=written,
        config=config.to_dict(),
        **{name: getattr(config, name) for name in _FROM_CONFIG},
    )
    settings.write(folder)
    return settings


def _requests(
    examples: Path, spec: schema.FeatureSpec
) -> Iterator[tuple[Any, records.Requests]]:
    serialized = tf.data.TFRecordDataset(
        streams.stream_files(examples, schema.TRAIN), compression_type="GZIP"
    ).batch(_ROWS)
    query = {schema.QUERY: tf.io.FixedLenFeature([], tf.string)}
    for batch in serialized:
        text = tf.io.parse_example(batch, query)[schema.QUERY].numpy()
        yield text, records.parse_requests(batch, spec)


def _positives(batch: records.Requests) -> tuple[np.ndarray, np.ndarray]:
    """Number of the request, and key, of each positive."""
    positive = batch.level.numpy() >= schema.Level.CLICKED
    return batch.request.numpy()[positive], batch.items.key.numpy()[positive]


def _catalogue(examples: Path, spec: schema.FeatureSpec) -> Iterator[pa.Table]:
    for batch in records.catalogue_batches(examples, spec, batch_size=_ROWS):
        columns: dict[str, pa.Array] = {
            schema.ITEM_ID: pa.array(batch.item_id.numpy(), pa.string()),
            TEXT: pa.array(batch.text.numpy(), pa.string()),
        }
        for grain in spec.text_grains:
            # The tokens of all fields weigh alike here.
            columns[schema.item_feature(grain.name)] = _lists(
                batch.items.ids[grain.name].merge_dims(1, 2)
            )
        for grain in spec.attribute_grains:
            columns[schema.item_feature(grain.name)] = pa.array(
                batch.items.ids[grain.name].numpy(), pa.int32()
            )
        yield pa.table(columns)


def _write_queries(examples: Path, spec: schema.FeatureSpec, folder: Path) -> None:
    queries = list(relevance.read_qrels(examples, schema.TEST))
    vocabularies = features.read_vocabularies(examples, spec.grains)
    ids = features.Featurizer(spec, vocabularies).query(tf.constant(queries))
    table = _query_columns(ids, spec).append_column(
        schema.QUERY, pa.array(queries, pa.string())
    )
    pq.write_table(table, folder / QUERIES)


def _query_columns(ids: records.Ids, spec: schema.FeatureSpec) -> pa.Table:
    return pa.table(
        {schema.query_feature(g.name): _lists(ids[g.name]) for g in spec.text_grains}
    )


def _lists(ids: tf.RaggedTensor) -> pa.ListArray:
    return pa.ListArray.from_arrays(
        pa.array(ids.row_splits.numpy(), pa.int32()),
        pa.array(ids.flat_values.numpy(), pa.int32()),
    )


def _pair_schema(items: pa.Schema, spec: schema.FeatureSpec) -> pa.Schema:
    lists = pa.list_(pa.int32())
    queries = [(schema.query_feature(g.name), lists) for g in spec.text_grains]
    return pa.schema([*queries, *items, (ITEM, pa.int32())])


def _attribute_values(
    items: pa.Table, spec: schema.FeatureSpec
) -> dict[str, list[int]]:
    """Attributes stay ids: their raw values are not in the records, and looking up one value an item costs nothing."""
    names = [schema.item_feature(g.name) for g in spec.attribute_grains]
    return {name: items[name].to_pylist() for name in names}


def _text_example(
    query: bytes, text: str, attributes: dict[str, int], item: int
) -> tf.train.Example:
    def of_bytes(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_int(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    feature = {
        schema.QUERY: of_bytes(query),
        TEXT: of_bytes(text.encode()),
        ITEM: of_int(item),
        **{name: of_int(value) for name, value in attributes.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
