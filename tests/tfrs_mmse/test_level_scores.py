import numpy as np
import pytest
from numpy.testing import assert_allclose

from tfrs_mmse import level_scores
from tfrs_mmse.schema import Level

ITEMS = [b"a", b"b", b"c", b"d"]


def arrays(*rows: list[float]) -> list[np.ndarray]:
    return [np.array(row, np.float32) for row in rows]


def test_the_accuracy_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    # Pairs of the first query: 3 > 1, 3 > 2, 2 > 1, and 2 = 2, of the second: 0 < 5. The third has no pair.
    higher, lower = arrays([3, 2], [0], []), arrays([1, 2], [5], [1])
    found = level_scores.pair_accuracy(higher, lower)
    assert found.accuracy == pytest.approx(((3 + 0.5) / 4 + 0) / 2)
    assert found.num_queries == 2


def test_levels_that_never_meet_have_no_accuracy() -> None:
    assert level_scores.pair_accuracy(arrays([1], []), arrays([], [1])) == (None, 0)


def test_swapping_the_levels_mirrors_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    one, other = ([rng.integers(0, 5, 7) for _ in range(20)] for _ in range(2))
    there = level_scores.pair_accuracy(one, other).accuracy
    back = level_scores.pair_accuracy(other, one).accuracy
    assert there is not None and back is not None
    assert there + back == pytest.approx(1, abs=2e-6)


def test_scores_are_inner_products_by_level() -> None:
    query = np.array([[1, 2]], np.float32)
    item = np.array([[1, 0], [0, 1], [1, 1], [2, 2]], np.float32)
    qrels = {b"q": {b"a": 3, b"c": 2, b"b": 2, b"gone": 3}}
    scores = level_scores.score_levels(query, item, qrels, ITEMS)
    assert list(scores) == [
        Level.ORDERED,
        Level.CLICKED,
        Level.UNCLICKED,
        Level.RANDOM,
    ]
    assert_allclose(scores[Level.ORDERED][0], [1])
    assert_allclose(scores[Level.CLICKED][0], [1 + 2, 2])
    assert len(scores[Level.UNCLICKED][0]) == 0
    # Only `d` is not judged.
    assert set(scores[Level.RANDOM][0].tolist()) <= {2 * 1 + 2 * 2}


def test_random_items_are_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    query, item = (rng.random((n, 3), np.float32) for n in (5, 40))
    item_ids = [b"%d" % i for i in range(40)]
    qrels = {b"%d" % q: {b"0": 2} for q in range(5)}
    one, other = (
        level_scores.score_levels(query, item, qrels, item_ids) for _ in range(2)
    )
    for first, second in zip(one[Level.RANDOM], other[Level.RANDOM], strict=True):
        assert_allclose(first, second, rtol=0)


def test_every_two_levels_are_named_higher_first() -> None:
    scores = {
        Level.RANDOM: arrays([0]),
        Level.ORDERED: arrays([3]),
        Level.CLICKED: arrays([2]),
        Level.UNCLICKED: arrays([1]),
    }
    found = level_scores.pair_accuracies(scores)
    assert list(found) == [
        "ordered>clicked",
        "ordered>unclicked",
        "ordered>random",
        "clicked>unclicked",
        "clicked>random",
        "unclicked>random",
    ]
    assert {accuracy for accuracy, _ in found.values()} == {1}
