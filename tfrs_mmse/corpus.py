"""The catalogue as vectors, and the held-out queries as text."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.records import catalogue_batches
from tfrs_mmse.restore import Trained
from tfrs_mmse.streams import read_columns

_BATCH = 4096


class Corpus(NamedTuple):
    """Every item of the catalogue, embedded.

    Attributes:
        item_id: [N] bytes.
        embedding: [N, D] float32.
        title: [N] bytes.
    """

    item_id: np.ndarray
    embedding: np.ndarray
    title: np.ndarray


def embed_items(trained: Trained, data: Path) -> Corpus:
    """Embeds the catalogue stream, in the order of its files."""
    embed = tf.function(trained.model.item_embedding, reduce_retracing=True)
    item_id, embedding, title = [], [], []
    for batch in catalogue_batches(data, trained.manifest.features, batch_size=_BATCH):
        item_id.append(batch.item_id.numpy())
        embedding.append(embed(batch.items.ids).numpy())
        title.append(batch.title.numpy())
    return Corpus(
        np.concatenate(item_id), np.concatenate(embedding), np.concatenate(title)
    )


def embed_queries(trained: Trained, queries: list[str]) -> np.ndarray:
    """[Q, D] float32 from query strings."""
    embed = tf.function(
        lambda query: trained.model.query_embedding(trained.featurizer.query(query)),
        input_signature=[tf.TensorSpec([None], tf.string)],
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
