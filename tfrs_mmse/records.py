"""Reads the examples: from gzipped TFRecords to batches of ids, lazily and in parallel.

A batch keeps the items of all its requests one after the other ("flat"), with the number of the request that each
belongs to, so that no padding is stored, gathered or multiplied.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.record_checks import item_checks, request_checks, require
from tfrs_mmse.shards import naming_unreadable
from tfrs_mmse.streams import stream_files

# By grain. Of queries int64 [B, (tokens)]; of items int64 [N, F, (tokens)] for F text fields, and int64 [N] for an
# attribute.
Ids = Mapping[str, tf.Tensor | tf.RaggedTensor]


class Items(NamedTuple):
    """Items, flat.

    Attributes:
        key: [N] int64 fingerprints of the item ids; equal ids have equal keys.
        ids: Ids of every grain.
        log_probability: [N] float32, log of the item's share of the training slots; -inf where it has none.
    """

    key: tf.Tensor
    ids: Ids
    log_probability: tf.Tensor


class Requests(NamedTuple):
    """Search requests with the items that they showed.

    Attributes:
        query_ids: Ids of the text grains of B queries.
        positive_key: [B, (P)] int64 keys of every item that the query is known to have clicked or ordered.
        items: The N items of all requests.
        request: [N] int64 number of the request that each item belongs to, ascending.
        level: [N] int32 `schema.Level`.
        position: [N] int32, 0-based rank on the page, -1 where unknown.
    """

    query_ids: Ids
    positive_key: tf.RaggedTensor
    items: Items
    request: tf.Tensor
    level: tf.Tensor
    position: tf.Tensor


class Turn(NamedTuple):
    """Which batches of a stream a worker takes: every `num_workers`-th, beginning with that of its own number."""

    num_workers: int
    worker: int


ALONE = Turn(num_workers=1, worker=0)


class Catalogue(NamedTuple):
    """Items of the catalogue stream with what people read of them.

    Attributes:
        items: The B items.
        item_id: [B] strings.
        title: [B] strings.
        text: [B] strings: every text field that is filled, joined by newlines.
    """

    items: Items
    item_id: tf.Tensor
    title: tf.Tensor
    text: tf.Tensor


def parse_requests(serialized: tf.Tensor, spec: schema.FeatureSpec) -> Requests:
    """Parses request records.

    Args:
        serialized: [B] serialized `tf.train.Example`.
        spec: The manifest's feature spec.
    """
    features: dict[str, tf.io.RaggedFeature] = {
        schema.QUERY_POSITIVES: tf.io.RaggedFeature(tf.string),
        schema.LEVEL: tf.io.RaggedFeature(tf.int64),
        schema.POSITION: tf.io.RaggedFeature(tf.int64),
        **{
            schema.query_feature(g.name): tf.io.RaggedFeature(tf.int64)
            for g in spec.text_grains
        },
        **_item_features(spec),
    }
    parsed = _parse(serialized, features)
    require(*request_checks(parsed, spec), *item_checks(parsed, spec))
    item_id = parsed[schema.ITEM_ID]
    return Requests(
        query_ids={
            g.name: parsed[schema.query_feature(g.name)] for g in spec.text_grains
        },
        positive_key=tf.ragged.map_flat_values(
            item_key, parsed[schema.QUERY_POSITIVES]
        ),
        items=_items(parsed, spec),
        request=item_id.value_rowids(),
        level=tf.cast(parsed[schema.LEVEL].flat_values, tf.int32),
        position=tf.cast(parsed[schema.POSITION].flat_values, tf.int32),
    )


def parse_catalogue(serialized: tf.Tensor, spec: schema.FeatureSpec) -> Catalogue:
    """Parses item records: [B] serialized `tf.train.Example`."""
    strings = [schema.TITLE, schema.TEXT]
    features = {
        **_item_features(spec),
        **{name: tf.io.RaggedFeature(tf.string) for name in strings},
    }
    parsed = _parse(serialized, features)
    require(*item_checks(parsed, spec))
    return Catalogue(
        _items(parsed, spec),
        *(parsed[name].flat_values for name in (schema.ITEM_ID, *strings)),
    )


def request_batches(
    data: Path,
    spec: schema.FeatureSpec,
    split: str,
    *,
    batch_size: int,
    seed: int,
    epochs: range,
    skip: int = 0,
    left_out: Collection[str] = (),
    turn: Turn = ALONE,
    choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda records: records,
) -> tf.data.Dataset:
    """Passes over a split's requests, each in an order of its own that depends on the seed and the epoch's number.

    The records lie in hash order already, so a modest buffer and another order of the shards shuffle well.

    Args:
        data: Directory of examples.
        spec: The manifest's feature spec.
        split: `train` or `test`.
        batch_size: Requests of a batch; the last batch of an epoch may be smaller.
        seed: Equal seeds give equal batches.
        epochs: Numbers of the epochs.
        skip: Batches to leave out from the beginning, of those that are the worker's.
        left_out: Names of shards that are not read.
        turn: Which of each epoch's batches to take. Every worker gets equally many: where the epoch has no more for it,
            its last one is empty.
        choose: From all serialized records of a pass to those that take part in it.

    Returns:
        A dataset of `Requests`.
    """
    files = stream_files(data, split, left_out=left_out)
    batches = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(
        lambda epoch: _taken(
            choose(_shuffled(files, seed, epoch, buffer_size=16 * batch_size)).batch(
                batch_size
            ),
            turn,
        )
    )
    return batches.skip(skip).map(
        lambda s: parse_requests(s, spec),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def random_item_batches(
    data: Path,
    spec: schema.FeatureSpec,
    *,
    batch_size: int,
    seed: int,
    num_items: int,
    skip: int = 0,
    left_out: Collection[str] = (),
    turn: Turn = ALONE,
) -> tf.data.Dataset:
    """Endless batches of catalogue items; every item comes once before any comes again, each time in another order.

    One such stream must last the whole training: started anew for each epoch, it would never get past the beginning
    of a large catalogue.

    Args:
        data: Directory of examples.
        spec: The manifest's feature spec.
        batch_size: Items of a batch, always that many.
        seed: Equal seeds give equal batches.
        num_items: Items in the catalogue, in the shards that are read.
        skip: Batches to leave out from the beginning, of those that are the worker's; whole passes are not read.
        left_out: Names of shards that are not read.
        turn: Which of the batches to take.

    Returns:
        A dataset of `Catalogue`.
    """
    files = stream_files(data, schema.ITEMS, left_out=left_out)
    first, rest = divmod(skip * turn.num_workers * batch_size, num_items)
    items = tf.data.Dataset.counter(first).flat_map(
        lambda number: _shuffled(files, seed, number, buffer_size=16 * batch_size)
    )
    return (
        items.skip(rest)
        .batch(batch_size)
        .shard(*turn)
        .map(
            lambda s: parse_catalogue(s, spec),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )


def catalogue_batches(
    data: Path, spec: schema.FeatureSpec, *, batch_size: int
) -> Iterator[Catalogue]:
    """One pass over the catalogue, in the order of the files.

    Raises:
        CommandError: a file is damaged or holds other records.
    """

    def parse(serialized: tf.Tensor) -> Catalogue:
        return parse_catalogue(serialized, spec)

    files = stream_files(data, schema.ITEMS)
    batches = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(batch_size)
    with naming_unreadable(files, parse):
        yield from batches.map(
            parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )


def item_key(item_id: tf.Tensor) -> tf.Tensor:
    """A 63-bit fingerprint of item ids: strings [...] -> int64 [...]. Integers compare much faster than strings."""
    return tf.strings.to_hash_bucket_fast(item_id, 2**63 - 1)


def _shuffled(
    files: list[str], seed: int, number: tf.Tensor, *, buffer_size: int
) -> tf.data.Dataset:
    """The records of a stream in an order that depends on nothing but the seed and the number of the pass."""
    # Of the graph of this function alone: an order is drawn by both seeds, and a global one of 0 is refused beside one
    # that is a tensor.
    tf.random.set_seed(1)
    seed = seed * 1_000_003 + number
    shards = tf.data.Dataset.from_tensor_slices(files).shuffle(
        len(files), seed=seed, reshuffle_each_iteration=False
    )
    records = shards.interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP"),
        cycle_length=min(len(files), 8),
        num_parallel_calls=min(len(files), 2),
        deterministic=True,
    )
    return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)


def _taken(batches: tf.data.Dataset, turn: Turn) -> tf.data.Dataset:
    """The worker's of the batches of one pass, which are serialized records."""
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    # So many that each worker's share is as large as the first one's.
    return batches.concatenate(nothing.repeat(turn.worker)).shard(*turn)


def _item_features(spec: schema.FeatureSpec) -> dict[str, tf.io.RaggedFeature]:
    features = {
        schema.ITEM_ID: tf.io.RaggedFeature(tf.string),
        schema.LOG_PROBABILITY: tf.io.RaggedFeature(tf.float32),
        **{
            schema.item_feature(g.name): tf.io.RaggedFeature(tf.int64)
            for g in spec.attribute_grains
        },
    }
    for grain in spec.text_grains:
        features[schema.item_feature(grain.name)] = tf.io.RaggedFeature(
            tf.int64,
            value_key=schema.item_feature(grain.name),
            partitions=[
                tf.io.RaggedFeature.RowLengths(schema.item_lengths(grain.name))
            ],
            row_splits_dtype=tf.int64,
        )
    return features


def _parse(
    serialized: tf.Tensor, features: dict[str, tf.io.RaggedFeature]
) -> dict[str, tf.RaggedTensor]:
    features = {k: f._replace(row_splits_dtype=tf.int64) for k, f in features.items()}
    return tf.io.parse_example(serialized, features)


def _items(parsed: Mapping[str, tf.RaggedTensor], spec: schema.FeatureSpec) -> Items:
    ids: dict[str, tf.Tensor | tf.RaggedTensor] = {}
    for grain in spec.text_grains:
        by_field = parsed[schema.item_feature(grain.name)].values  # [N * F, (T)]
        ids[grain.name] = tf.RaggedTensor.from_uniform_row_length(
            by_field, len(spec.text_fields)
        )
    for grain in spec.attribute_grains:
        ids[grain.name] = parsed[schema.item_feature(grain.name)].flat_values
    return Items(
        key=item_key(parsed[schema.ITEM_ID].flat_values),
        ids=ids,
        log_probability=parsed[schema.LOG_PROBABILITY].flat_values,
    )
