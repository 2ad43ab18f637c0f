"""The tasks on batches whose scores are easily seen: the queries are unit vectors, so items *are* their scores."""

from math import log

import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse.batches import Batch, make_batch
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.fields import choices
from tfrs_mmse.records import Items, Requests
from tfrs_mmse.scores import compare
from tfrs_mmse.tasks import (
    RANKING_LOSSES,
    RETRIEVAL_LOSSES,
    LevelRanking,
    LevelRetrieval,
)


def requests(
    *,
    level: list[int],
    request: list[int],
    key: list[int],
    positives: list[list[int]],
    probability: float = 1.0,
    position: list[int] | None = None,
) -> Requests:
    num_items = len(level)
    return Requests(
        query_ids={},
        positive_key=tf.ragged.constant(
            positives, dtype=tf.int64, ragged_rank=1, row_splits_dtype=tf.int64
        ),
        items=Items(
            tf.constant(key, tf.int64), {}, tf.fill([num_items], log(probability))
        ),
        request=tf.constant(request, tf.int64),
        level=tf.constant(level),
        position=tf.constant(position or [-1] * num_items),
    )


def random_items(key: list[int]) -> Items:
    return Items(tf.constant(key, tf.int64), {}, tf.fill([len(key)], float("-inf")))


PLAIN = {
    "temperature": 1.0,
    "log_q": False,
    "synthetic_queries": 0,
    "uniform_negatives": 1,
}
QUERIES = tf.eye(2)
SEED = tf.constant([0, 0], tf.int64)


def run(
    task: LevelRetrieval | LevelRanking, query: tf.Tensor, item: tf.Tensor, batch: Batch
) -> tf.Tensor:
    """The task's loss of these embeddings."""
    return task(compare(query, item, batch), batch)


def retrieval(
    config: TrainConfig,
    scores: list[list[float]],
    random: list[list[float]],
    batch: Requests,
) -> float:
    """The task's loss; rows of `scores` and `random` are items, columns the scores with either query."""
    task = LevelRetrieval(config, num_items=4, ordered_weight=3.0)
    items = random_items(list(range(1000, 1000 + len(random))))
    candidates = tf.constant([*scores, *random], tf.float32)
    return float(run(task, QUERIES, candidates, make_batch(batch, items, seed=SEED)))


def test_positives_meet_the_other_requests_items_and_the_random_ones_weighted_by_level():
    batch = requests(
        level=[2, 1, 3], request=[0, 0, 1], key=[1, 2, 3], positives=[[1], [3]]
    )
    scores, random = [[log(3), 0], [9, 0], [0, log(2)]], [[log(2), 0]]
    # Query 0: exp = 3 against item 2 (1) and random (2); its own unclicked item, 9, is left to the ranking loss.
    clicked = log((3 + 1 + 2) / 3)
    # Query 1: exp = 2 against items 0 and 1 (1 each) and random (1).
    ordered = log((2 + 3) / 2)
    expected = (1 * clicked + 3 * ordered) / (1 + 3)
    assert_allclose(
        retrieval(TrainConfig(**PLAIN), scores, random, batch), expected, rtol=1e-6
    )


def test_what_a_query_clicked_elsewhere_is_no_negative_of_it():
    scores, random = [[log(3), 0], [50, 0]], [[0, 0]]
    knows = requests(level=[2, 1], request=[0, 1], key=[1, 2], positives=[[1, 2], []])
    assert_allclose(
        retrieval(TrainConfig(**PLAIN), scores, random, knows), log(4 / 3), rtol=1e-6
    )
    unmasked = TrainConfig(**PLAIN, mask_positives=False)
    assert retrieval(unmasked, scores, random, knows) == pytest.approx(
        50 - log(3), rel=1e-3
    )


def test_log_q_weighs_each_negative_by_how_likely_it_is_drawn() -> None:
    # Two slots miss an item with probability 1/2, the one uniform draw of four items with 3/4.
    batch = requests(
        level=[2, 1],
        request=[0, 1],
        key=[1, 2],
        positives=[[1], []],
        probability=log(2) / 2,
    )
    config = TrainConfig(**{**PLAIN, "log_q": True})
    # P = 1 - 1/2 * 3/4 = 5/8 for the in-batch item and 1/4 for the random one, so exp(0) counts 8/5 and 4 times.
    assert_allclose(
        retrieval(config, [[log(3), 0], [0, 0]], [[0, 0]], batch),
        log((3 + 8 / 5 + 4) / 3),
        rtol=1e-6,
    )


def test_a_batch_without_positives_gives_no_loss():
    batch = requests(level=[1, 1], request=[0, 1], key=[1, 2], positives=[[], []])
    assert retrieval(TrainConfig(**PLAIN), [[1, 1], [1, 1]], [[0, 0]], batch) == 0.0


def test_ranking_compares_inside_a_request_only():
    batch = requests(
        level=[3, 1, 2], request=[0, 0, 1], key=[1, 2, 3], positives=[[1], [3]]
    )
    ranking = LevelRanking(TrainConfig(ranking_temperature=1.0))
    # Request 0: log 3 against 0, odds 3/1. Request 1 has nothing to compare and is not counted.
    scores = tf.constant([[log(3), 7], [0, 7], [99, 1]])
    loss = run(ranking, QUERIES, scores, make_batch(batch, seed=SEED))
    assert_allclose(loss, log(4 / 3), rtol=1e-6)


def test_a_pair_with_an_ordered_item_weighs_as_the_order():
    batch = requests(level=[3, 2, 1], request=[0, 0, 0], key=[1, 2, 3], positives=[[]])
    ranking = LevelRanking(TrainConfig(ranking_temperature=1.0), ordered_weight=4.0)
    # The ordered item has odds of 3/1 against either other, the clicked one of 1/1 against the unclicked one.
    scores = tf.constant([[log(3)], [0], [0]])
    loss = run(ranking, tf.ones([1, 1]), scores, make_batch(batch, seed=SEED))
    assert_allclose(loss, (4 * log(4 / 3) + 4 * log(4 / 3) + log(2)) / 3, rtol=1e-6)


def test_without_anything_to_compare_the_ranking_loss_is_nothing():
    batch = requests(level=[2, 2], request=[0, 1], key=[1, 2], positives=[[1], [2]])
    ranking = LevelRanking(TrainConfig())
    assert run(ranking, QUERIES, tf.eye(2), make_batch(batch, seed=SEED)) == 0


def test_log_q_counts_the_slots_of_the_log_only():
    config = TrainConfig(**{**PLAIN, "log_q": True})
    shown = requests(
        level=[2], request=[0], key=[1], positives=[[1]], probability=log(2)
    )
    # A synthetic request adds a second query and a random item, but no draw from the log: the item of the log is
    # there with probability 1 - 1/2 * 3/4 = 5/8, the random one with 1/4.
    made = requests(
        level=[2], request=[0], key=[7], positives=[[7]], probability=0.5
    )._replace(items=random_items([7]))
    batch = make_batch(shown, random_items([7]), made, seed=SEED)
    scores = tf.constant([[log(3), log(2)], [0, log(5)]])
    loss = run(LevelRetrieval(config, num_items=4), QUERIES, scores, batch)
    first, second = log((3 + 4 * 1) / 3), log((5 + 8 / 5 * 2) / 5)
    assert_allclose(loss, (first + second) / 2, rtol=1e-6)


def test_every_loss_of_the_config_is_there() -> None:
    assert tuple(RETRIEVAL_LOSSES) == choices(TrainConfig, "retrieval_loss")
    assert tuple(RANKING_LOSSES) == choices(TrainConfig, "ranking_loss")


# Query 0 clicked item 1 above the unclicked item 2, query 1 ordered item 3; item 1000 is a random one.
PAGE = {
    "level": [2, 1, 3],
    "request": [0, 0, 1],
    "key": [1, 2, 3],
    "positives": [[1], [3]],
}
SCORES, RANDOM = [[0.7, 0.1], [0.65, 0.3], [0.3, 0.8]], [[0.4, 0.1]]


@pytest.mark.parametrize("loss", RETRIEVAL_LOSSES)
@pytest.mark.parametrize("settings", [{}, {"log_q": True}])
def test_every_retrieval_loss_pulls_positives_up_with_a_finite_gradient(
    loss: str, settings: dict[str, object]
) -> None:
    config = TrainConfig.from_dict(
        PLAIN | {"retrieval_loss": loss, "margin": 0.6} | settings
    )
    candidates = tf.Variable([*SCORES, *RANDOM])
    batch = make_batch(
        requests(**PAGE, probability=0.1), random_items([1000]), seed=SEED
    )
    with tf.GradientTape() as tape:
        value = run(LevelRetrieval(config, num_items=4), QUERIES, candidates, batch)
    gradient = tape.gradient(value, candidates)
    assert value > 0
    assert tf.reduce_all(tf.math.is_finite(gradient))
    assert gradient[0, 0] < 0 and gradient[2, 1] < 0


@pytest.mark.parametrize(
    ("settings", "chance"),
    [
        ({}, log(4)),
        ({"retrieval_loss": "hinge", "margin": 0.3}, 0.3),
    ],
)
def test_chance_is_the_loss_of_equal_scores(
    settings: dict[str, object], chance: float
) -> None:
    config = TrainConfig.from_dict(PLAIN | settings)
    task = LevelRetrieval(config, num_items=4)
    assert task.chance() == pytest.approx(chance)
    # Every other item of the catalogue is a negative of the one request.
    shown = requests(level=[2], request=[0], key=[1], positives=[[1]])
    batch = make_batch(shown, random_items([7, 8, 9]), seed=SEED)
    assert_allclose(run(task, QUERIES[:1], tf.zeros([4, 2]), batch), chance, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("logistic", (log(4 / 3) + log(4 / 3) / 3) / 2),
        ("hinge", 0.0),
        ("listwise", log((3 + 1 + 1 / 3) / 3)),
    ],
)
def test_ranking_weighs_unclicked_items_by_their_position(
    loss: str, expected: float
) -> None:
    # log 3 against 0 twice; the second unclicked item stands two below the click and weighs 1/3.
    shown = requests(
        level=[1, 2, 1],
        request=[0, 0, 0],
        key=[1, 2, 3],
        positives=[[2]],
        position=[0, 1, 3],
    )
    config = TrainConfig(
        ranking_loss=loss, ranking_temperature=1.0, unclicked_position_exponent=1.0
    )
    scores = tf.constant([[0, 0], [log(3), 0], [0, 0]], tf.float32)
    found = run(LevelRanking(config), QUERIES[:1], scores, make_batch(shown, seed=SEED))
    assert_allclose(found, expected, rtol=1e-6)
