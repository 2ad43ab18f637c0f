"""Batches in which something is absent that most batches have: nothing is learned from it, and nothing breaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrs_mmse import restore, schema
from tfrs_mmse.batches import Batch, make_batch, training_batches
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.fields import choices
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.presets import PRESETS
from tfrs_mmse.records import Items, Requests

SMALL = {
    "grains": "word,category",
    "embedding_dim": 8,
    "attribute_dim": 4,
    "batch_size": 8,
    "synthetic_queries": 4,
    "uniform_negatives": 8,
}
SEED = tf.constant([0, 0], tf.int64)


class Trainee:
    """A model, and real batches for it."""

    def __init__(self, shop: Any, config: TrainConfig) -> None:
        manifest = schema.Manifest.read(shop.examples)
        spec = manifest.features
        featurizer = Featurizer(spec, read_vocabularies(shop.examples, spec.grains))
        self.model = TwoTowerModel(spec, config, num_items=300, num_steps=10)
        restore.build(self.model, featurizer)
        self.model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(0.1))
        self._batches = iter(
            training_batches(
                config, shop.examples, featurizer, num_items=300, steps_per_epoch=10
            )
        )

    def batch(self) -> Batch:
        return next(self._batches)

    def step(self, batch: Batch) -> float:
        return float(self.model.train_step(batch)["loss"])

    def weights(self) -> list[np.ndarray]:
        return [v.numpy() for v in self.model.trainable_variables]


def with_levels(batch: Batch, level: int) -> Batch:
    """The same batch, but every item of every request has this level."""
    same = tf.fill(tf.shape(batch.requests.level), level)
    return batch._replace(requests=batch.requests._replace(level=same))


def only(requests: Requests, rows: Sequence[int]) -> Requests:
    """The same requests with these of their items, by place."""
    kept = tf.constant(rows, tf.int64, shape=[len(rows)])
    items = Items(
        *tf.nest.map_structure(lambda tensor: tf.gather(tensor, kept), requests.items)
    )
    return requests._replace(
        items=items,
        request=tf.gather(requests.request, kept),
        level=tf.gather(requests.level, kept),
        position=tf.gather(requests.position, kept),
    )


CONFIGS = {
    **{name: PRESETS[name]() for name in ("two_tower", "dpsr", "mgdspr")},
    **{
        f"{field}={choice}": TrainConfig.from_dict({field: choice})
        for field in ("retrieval_loss", "ranking_loss")
        for choice in choices(TrainConfig, field)
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_empty_batch_costs_nothing_and_teaches_nothing(
    simulated_shop: Any, name: str
) -> None:
    config = TrainConfig.from_dict({**CONFIGS[name].to_dict(), **SMALL})
    trainee = Trainee(simulated_shop, config)
    batch = trainee.batch()
    trainee.step(
        batch
    )  # some training, so that Adagrad's sums are not the initial ones
    before = trainee.weights()

    assert trainee.step(with_levels(batch, schema.Level.UNCLICKED)) == 0
    no_items = make_batch(only(batch.requests, []), batch.candidates, seed=SEED)
    assert trainee.step(no_items) == 0
    # One clicked item, and nothing to compare it with.
    first = int(tf.where(batch.requests.level >= schema.Level.CLICKED)[0, 0])
    alone = make_batch(only(batch.requests, [first]), seed=SEED)
    assert trainee.step(alone) == 0

    for old, new in zip(before, trainee.weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert tf.math.is_finite(trainee.model.retrieval_loss.result())
    assert tf.math.is_finite(trainee.model.ranking_loss.result())
