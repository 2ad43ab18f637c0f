from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfrs_mmse import groups
from tfrs_mmse.cli import CommandError

WriteRequests = Callable[[Path, Sequence[tuple[str, Mapping[str, int]]]], None]


def shares(*traffic: int) -> list[str]:
    """The group of each query."""
    masks = groups.traffic_groups(np.array(traffic))
    stacked = np.stack(list(masks.values()))
    assert (stacked.sum(axis=0) == 1).all()
    return [list(masks)[i] for i in stacked.argmax(axis=0)]


def test_head_torso_and_tail_are_half_three_and_two_tenths_of_the_traffic() -> None:
    # The middles of their shares are at 25, 62.5, 82.5, 93 and 98 of 100.
    assert shares(50, 25, 15, 6, 4) == ["head", "torso", "tail", "tail", "tail"]
    # 60: middle 30; 10 each as one block of 40: middle 60 + 20 = 80, the first that is tail.
    assert shares(60, 10, 10, 10, 10) == ["head", *["tail"] * 4]


def test_queries_of_equal_traffic_stay_together() -> None:
    assert shares(3, 3, 3, 3) == ["torso"] * 4  # one block, whose middle is at 0.5
    assert shares(9, 1, 1, 9, 1, 1) == ["head", "tail", "tail", "head", "tail", "tail"]


def test_one_query_with_all_the_traffic_but_some_is_the_head() -> None:
    assert shares(90, 0, 10) == ["head", "tail", "tail"]


def test_the_order_of_queries_does_not_matter() -> None:
    traffic = np.random.default_rng(0).zipf(1.5, size=200).clip(max=1000)
    order = np.random.default_rng(1).permutation(200)
    straight, shuffled = (groups.traffic_groups(t) for t in (traffic, traffic[order]))
    for name, mask in straight.items():
        assert_array_equal(shuffled[name], mask[order])
    assert (
        traffic[straight["head"]].min()
        > traffic[straight["torso"]].max()
        > traffic[straight["tail"]].max()
    )


def test_groups_go_by_the_train_split(
    tmp_path: Path, write_requests: WriteRequests
) -> None:
    train = [
        ("nut", {"a": 2, "b": 1}),
        ("nut", {"a": 1, "c": 1}),
        ("nut", {"a": 1}),
        ("bolt", {"b": 1, "d": 3}),
        ("other", {"e": 2}),
    ]
    write_requests(tmp_path / "train-00000-of-00001.tfrecord.gz", train)
    qrels = {
        b"bolt": {b"a": 2, b"b": 2},
        b"nut": {b"c": 3, b"d": 2},
        b"tea": {b"x": 2},
    }
    found = groups.read_groups(tmp_path, tmp_path, "test", qrels)
    assert {name: mask.tolist() for name, mask in found.queries.items()} == {
        "seen": [True, True, False],
        "unseen": [False, False, True],
        # 3 requests of `nut`: middle at 1.5 of 4; 1 of `bolt`: at 3.5 of 4; none of `tea`.
        "head": [False, True, False],
        "torso": [False, False, False],
        "tail": [True, False, True],
    }
    assert found.items == {
        "new_items": {b"x"},
        "items_without_clicks": {b"b", b"c", b"x"},
        "items_with_clicks": {b"a", b"d"},
    }


def test_traffic_is_that_of_the_split_itself_where_training_saw_no_query(
    tmp_path: Path, write_requests: WriteRequests
) -> None:
    write_requests(tmp_path / "train-00000-of-00001.tfrecord.gz", [("x", {"a": 2})])
    test = [("nut", {"a": 2})] * 8 + [("bolt", {"a": 2})] * 2
    write_requests(tmp_path / "test-00000-of-00001.tfrecord.gz", test)
    qrels = {b"bolt": {b"a": 2}, b"nut": {b"a": 2}}
    found = groups.read_groups(tmp_path, tmp_path, "test", qrels)
    assert found.queries["seen"].tolist() == [False, False]
    assert found.queries["head"].tolist() == [False, True]
    assert found.queries["tail"].tolist() == [True, False]
    assert found.items["items_with_clicks"] == {b"a"}


def test_a_split_that_should_be_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no train-"):
        groups.read_groups(tmp_path, tmp_path, "test", {b"q": {b"a": 2}})
