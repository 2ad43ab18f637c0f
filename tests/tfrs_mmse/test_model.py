"""How the parts of the loss come together; towers and tasks are replaced by constants."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.tasks import RetrievalLosses

SPEC = schema.FeatureSpec(
    text_fields=("title",),
    grains=(schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=9),),
    max_query_words=8,
    max_field_words=8,
)


def loss(step: int, **settings: object) -> float:
    """The loss at a step of 100, of 2 over all negatives, 3 over the hardest and 5 in the ranking."""
    config = TrainConfig.from_dict({"embedding_dim": 4, **settings})
    model = TwoTowerModel(SPEC, config, num_items=9, num_steps=100)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(0.1))
    model.optimizer.iterations.assign(step)
    hardest = tf.constant(3.0) if config.hardest_negatives else None
    model.query_tower = model.item_tower = lambda ids: None
    model.retrieval = lambda *_: RetrievalLosses(tf.constant(2.0), hardest)
    model.ranking = lambda *_: tf.constant(5.0)
    batch = SimpleNamespace(
        requests=SimpleNamespace(query_ids={}), candidates=SimpleNamespace(ids={})
    )
    return float(model.compute_loss(batch))


def test_the_ranking_loss_comes_in_during_its_warm_up() -> None:
    settings = {"ranking_weight": 0.4, "ranking_warmup": 0.5}
    found = [loss(step, **settings) for step in (0, 25, 50, 99)]
    assert found == pytest.approx([2, 2 + 0.2 * 5, 2 + 0.4 * 5, 2 + 0.4 * 5])
    assert loss(99, ranking_weight=0.0) == pytest.approx(2)


def test_the_hardest_negatives_take_over_their_share() -> None:
    settings = {"ranking_weight": 0.0, "hardest_negatives": 4}
    rising = {**settings, "hardest_weight": 0.5, "hardest_warmup": 1.0}
    assert [loss(step, **rising) for step in (0, 50, 100)] == pytest.approx(
        [2, 0.75 * 2 + 0.25 * 3, 0.5 * 2 + 0.5 * 3]
    )
    assert loss(0, **settings) == pytest.approx(3)
