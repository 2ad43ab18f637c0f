"""The tasks on batches whose scores are easily seen: the queries are unit vectors, so items *are* their scores."""

from math import log

import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse.batches import make_batch
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.records import Items, Requests
from tfrs_mmse.tasks import LevelRanking, LevelRetrieval


def requests(
    *,
    level: list[int],
    request: list[int],
    key: list[int],
    positives: list[list[int]],
    probability: float = 1.0,
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
        position=tf.fill([num_items], -1),
    )


def random_items(key: list[int]) -> Items:
    return Items(tf.constant(key, tf.int64), {}, tf.fill([len(key)], float("-inf")))


PLAIN = {
    "temperature": 1.0,
    "log_q": False,
    "uniform_negatives": 1,
    "clicked_weight": 1.0,
    "ordered_weight": 3.0,
}
QUERIES = tf.eye(2)


def retrieval(
    config: TrainConfig,
    scores: list[list[float]],
    random: list[list[float]],
    batch: Requests,
) -> float:
    """The task's loss; rows of `scores` and `random` are items, columns the scores with either query."""
    task = LevelRetrieval(config, num_items=4)
    items = random_items(list(range(1000, 1000 + len(random))))
    return float(
        task(
            QUERIES,
            tf.constant([*scores, *random], tf.float32),
            make_batch(batch, items),
        )
    )


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
    # Request 0: log 3 against 0, odds 3/1. Request 1 has nothing to compare: the mean over both halves the loss.
    scores = tf.constant([[log(3), 7], [0, 7], [99, 1]])
    loss = ranking(QUERIES, scores, make_batch(batch))
    assert_allclose(loss, log(4 / 3) / 2, rtol=1e-6)
