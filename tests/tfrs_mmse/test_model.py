"""How the parts of the loss come together; towers and tasks are replaced by constants."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.model import TwoTowerModel

SPEC = schema.FeatureSpec(
    text_fields=("title",),
    grains=(schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=9),),
    max_query_words=8,
    max_field_words=8,
)


def loss(step: int, **settings: object) -> float:
    """The loss at a step of 100, of 2 in the retrieval and 5 in the ranking."""
    config = TrainConfig.from_dict({"embedding_dim": 4, **settings})
    model = TwoTowerModel(SPEC, config, num_items=9, num_steps=100)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(0.1))
    model.optimizer.iterations.assign(step)
    model.query_tower = model.item_tower = lambda ids: tf.zeros([0, 4])
    model.retrieval = lambda *_: tf.constant(2.0)
    model.ranking = lambda *_: tf.constant(5.0)
    batch = SimpleNamespace(
        requests=SimpleNamespace(query_ids={}, request=tf.zeros([0], tf.int64)),
        candidates=SimpleNamespace(ids={}),
        slot=tf.zeros([0], tf.int32),
    )
    return float(model.compute_loss(batch))


def test_the_ranking_loss_comes_in_during_its_warm_up() -> None:
    settings = {"ranking_weight": 0.4, "ranking_warmup": 0.5}
    found = [loss(step, **settings) for step in (0, 25, 50, 99)]
    assert found == pytest.approx([2, 2 + 0.2 * 5, 2 + 0.4 * 5, 2 + 0.4 * 5])
    assert loss(99, ranking_weight=0.0) == pytest.approx(2)
