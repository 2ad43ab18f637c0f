"""The catalogue as vectors, and the held-out queries as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.records import catalogue_batches
from tfrs_mmse.restore import Trained
from tfrs_mmse.streams import read_columns, stream_files

_BATCH = 4096


class Corpus(NamedTuple):
    """Every item of the catalogue, embedded.

    Attributes:
        item_id: [N] bytes.
        embedding: [N, D] float32.
        title: [N] bytes.
        attributes: By name the values of those that the examples or embeddings hold: [N] bytes ("" is missing) of a
            category, float32 (NaN is missing) of a number.
    """

    item_id: np.ndarray
    embedding: np.ndarray
    title: np.ndarray
    attributes: dict[str, np.ndarray]


def embed_items(trained: Trained, data: Path) -> Corpus:
    """Embeds the catalogue stream, in the order of its files."""
    corpus = concatenate(list(embed_batches(trained, data)))
    return corpus._replace(attributes=read_attributes(data, trained.manifest.features))


def embed_batches(trained: Trained, data: Path) -> Iterator[Corpus]:
    """As `embed_items`, batch by batch, without attributes."""
    embed = tf.function(
        trained.model.item_embedding, reduce_retracing=True, autograph=False
    )
    for batch in catalogue_batches(data, trained.manifest.features, batch_size=_BATCH):
        yield Corpus(
            batch.item_id.numpy(),
            embed(batch.items.ids).numpy(),
            batch.title.numpy(),
            {},
        )


def concatenate(batches: list[Corpus]) -> Corpus:
    """One catalogue of several without attributes, of which there is one at least."""
    item_id, embedding, title, _ = zip(*batches, strict=True)
    return Corpus(
        np.concatenate(item_id), np.concatenate(embedding), np.concatenate(title), {}
    )


def read_attributes(data: Path, spec: schema.FeatureSpec) -> dict[str, np.ndarray]:
    """Raw values of attributes by name, in the order of the catalogue stream; see `Corpus`.

    Args:
        data: Directory of examples; those of an older version hold none.
        spec: Names the attributes.
    """
    files = stream_files(data, schema.ITEMS)
    first = tf.data.TFRecordDataset(files, compression_type="GZIP").take(1)
    held: set[str] = set()
    for record in first.as_numpy_iterator():
        held.update(tf.train.Example.FromString(record).features.feature)
    features = {
        schema.item_value(grain.name): tf.io.FixedLenFeature(
            [],
            tf.float32 if grain.kind is schema.GrainKind.NUMBER else tf.string,
        )
        for grain in spec.attribute_grains
        if schema.item_value(grain.name) in held
    }
    if not features:
        return {}
    batches = list(read_columns(data, schema.ITEMS, features))
    return {
        grain.name: np.concatenate([batch[name] for batch in batches])
        for grain in spec.attribute_grains
        if (name := schema.item_value(grain.name)) in features
    }


def embed_queries(trained: Trained, queries: list[str]) -> np.ndarray:
    """[Q, D] float32 from query strings."""
    embed = tf.function(
        lambda query: trained.model.query_embedding(trained.featurizer.query(query)),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    starts = range(0, len(queries), _BATCH)
    return np.concatenate(
        [
            embed(tf.constant(queries[start : start + _BATCH])).numpy()
            for start in starts
        ]
    )


def read_queries(data: Path, split: str, limit: int | None = None) -> list[str]:
    """The distinct folded queries of a split, in the order of their first record, which is a random one.

    Args:
        data: Directory of examples.
        split: `train` or `test`.
        limit: How many at the most; None for all.
    """
    features = {schema.QUERY: tf.io.FixedLenFeature([], tf.string)}
    queries: dict[str, None] = {}
    for batch in read_columns(data, split, features):
        queries.update(
            dict.fromkeys(query.decode("utf-8") for query in batch[schema.QUERY])
        )
        if limit is not None and len(queries) >= limit:
            break
    return list(queries)[:limit]
