"""Recall on a fixed sample of queries and items: small enough to be measured after every epoch."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.batches import chosen_levels, make_batch
from tfrs_mmse.holdout import records_of
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.records import Ids, parse_catalogue, parse_requests
from tfrs_mmse.retrieval import top_k

K = 10
NUM_ITEMS = 20_000
_BLOCK = 4096  # embedded at once


class RecallSample:
    """How many of the items that some queries are known to have clicked or ordered are among the best K?

    Candidates are what the sample's requests clicked or ordered, and the first items of the catalogue stream, whose
    order is a random one. The search is exact. Among fewer candidates an item is found more easily, so the figure is
    for comparing epochs of runs on the same data; `tfrs_mmse.evaluate` searches the whole catalogue.

    Attributes:
        candidate_key: [C] int64 keys of the candidates.
    """

    def __init__(
        self,
        model: TwoTowerModel,
        requests: tf.Tensor,
        data: Path,
        spec: schema.FeatureSpec,
        *,
        num_items: int = NUM_ITEMS,
        left_out: Collection[str] = (),
    ) -> None:
        """Reads the items.

        Args:
            model: The model that is trained.
            requests: [R] serialized request records.
            data: Directory of examples.
            spec: The manifest's feature spec.
            num_items: Items of the catalogue that are candidates, at most.
            left_out: Names of shards that are not read.
        """
        self._model = model
        self._embed_queries = _where_the_tables_are(model.query_embedding)
        self._embed_items = _where_the_tables_are(model.item_embedding)
        asked = chosen_levels(
            parse_requests(requests, spec), unclicked=False, ordered_level=True
        )
        items = records_of(data, schema.ITEMS, left_out).batch(num_items)
        drawn = parse_catalogue(next(iter(items)), spec)
        batch = make_batch(asked, drawn.items, seed=tf.zeros([2], tf.int64))
        self._item_ids = batch.candidates.ids
        # A query's requests all say the same of it.
        features = {schema.QUERY: tf.io.FixedLenFeature([], tf.string)}
        query = tf.io.parse_example(requests, features)[schema.QUERY].numpy()
        first = np.unique(query, return_index=True)[1]
        self._query_ids = {g: tf.gather(i, first) for g, i in asked.query_ids.items()}
        key = self.candidate_key = batch.candidates.key.numpy()
        self._num_items = len(key)
        self._relevant = _pairs(tf.gather(asked.positive_key, first), key)
        self._num_relevant = np.bincount(
            self._relevant // self._num_items, minlength=len(first)
        )

    def recall(self) -> float:
        """Recall@K of the model as it is now, the mean over the queries that have something to find; 0 if none has.

        Raises:
            ValueError: an embedding is not finite.
        """
        blocks = [
            {g: ids[start : start + _BLOCK] for g, ids in self._item_ids.items()}
            for start in range(0, self._num_items, _BLOCK)
        ]
        items = np.concatenate([self._embed_items(block).numpy() for block in blocks])
        found = top_k(self._embed_queries(self._query_ids).numpy(), items, K).index
        pairs = np.arange(len(found))[:, None] * self._num_items + found
        hits = np.isin(pairs, self._relevant).sum(axis=1)
        has = self._num_relevant > 0
        return float(np.sum(hits[has] / self._num_relevant[has]) / max(has.sum(), 1))


def _where_the_tables_are(
    embed: Callable[[Ids], tf.Tensor],
) -> Callable[[Ids], tf.Tensor]:
    """As a graph if parameter servers hold the tables: eager operations would fetch them whole."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return embed
    return tf.function(embed, reduce_retracing=True, autograph=False)


def _pairs(positive_key: tf.RaggedTensor, candidate_key: np.ndarray) -> np.ndarray:
    """Numbers `query * C + candidate` of all pairs that belong together.

    Args:
        positive_key: [Q, (P)] int64.
        candidate_key: [C] int64, distinct.
    """
    order = np.argsort(candidate_key)
    key = positive_key.values.numpy()
    place = np.searchsorted(candidate_key, key, sorter=order)
    candidate = order[np.minimum(place, len(order) - 1)]
    is_there = candidate_key[candidate] == key
    query = positive_key.value_rowids().numpy()
    return (query * len(candidate_key) + candidate)[is_there]
