"""Recall on a sample, against figures by hand and against a plain search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrs_mmse import holdout, schema
from tfrs_mmse.recall_sample import RecallSample, _pairs
from tfrs_mmse.records import item_key
from tfrs_mmse.streams import read_columns


class Scripted:
    """A model that gives item number i of the sample the score -i for every query, or i."""

    def __init__(self, sign: float) -> None:
        self._sign, self._number = sign, 0

    def query_embedding(self, ids: Any) -> tf.Tensor:
        return tf.ones([next(iter(ids.values())).nrows(), 1])

    def item_embedding(self, ids: Any) -> tf.Tensor:
        size = int(next(iter(ids.values())).shape[0])
        first, self._number = self._number, self._number + size
        return self._sign * tf.range(first, first + size, dtype=tf.float32)[:, None]


def clicked_of_first_requests(data: Path, number: int) -> dict[bytes, set[bytes]]:
    """By query of the first requests: the items that the query clicked or ordered in any training request."""
    features = {
        schema.QUERY: tf.io.FixedLenFeature([], tf.string),
        schema.QUERY_POSITIVES: tf.io.RaggedFeature(tf.string),
    }
    [batch] = read_columns(data, schema.TRAIN, features)
    rows = zip(batch[schema.QUERY], batch[schema.QUERY_POSITIVES], strict=True)
    return {query: set(items.tolist()) for query, items in list(rows)[:number]}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_recall_is_the_mean_share_of_known_items_among_the_best_ten(
    simulated_shop: Any, sign: float
) -> None:
    data = simulated_shop.examples
    spec = schema.Manifest.read(data).features
    requests = holdout.training_sample(data)[:40]
    sample = RecallSample(Scripted(sign), requests, data, spec, num_items=1000)
    keys = sample.candidate_key
    assert len(keys) == len(set(keys.tolist())) == 300  # the whole catalogue
    best = set((keys[-10:] if sign > 0 else keys[:10]).tolist())
    shares = [
        np.mean([int(item_key(tf.constant(item))) in best for item in items])
        for items in clicked_of_first_requests(data, 40).values()
        if items
    ]
    if sign < 0:  # what the requests clicked comes first in the sample
        assert 0 < np.mean(shares) < 1
    assert sample.recall() == pytest.approx(np.mean(shares))


def test_what_the_requests_clicked_is_a_candidate_whatever_part_of_the_catalogue_is(
    simulated_shop: Any,
) -> None:
    data = simulated_shop.examples
    spec = schema.Manifest.read(data).features
    requests = holdout.training_sample(data)[:40]
    sample = RecallSample(Scripted(1.0), requests, data, spec, num_items=1)
    features = {
        schema.ITEM_ID: tf.io.RaggedFeature(tf.string),
        schema.LEVEL: tf.io.RaggedFeature(tf.int64),
    }
    parsed = tf.io.parse_example(requests, features)
    positive = parsed[schema.LEVEL].values >= schema.Level.CLICKED
    keys = set(item_key(parsed[schema.ITEM_ID].values[positive]).numpy().tolist())
    assert len(keys) > 10
    assert keys <= set(sample.candidate_key.tolist())
    assert len(sample.candidate_key) <= len(keys) + 1


def test_known_items_that_are_no_candidates_cannot_be_found() -> None:
    known = tf.ragged.constant([[5, 9], [], [7]], dtype=tf.int64)
    # Query 0 and candidate 1; query 2 and candidate 0; of three candidates.
    pairs = _pairs(known, np.array([7, 5, 3]))
    assert sorted(pairs.tolist()) == [0 * 3 + 1, 2 * 3 + 0]
