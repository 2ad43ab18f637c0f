"""Joining requests and taking their answers apart again."""

import numpy as np
import pytest
import tensorflow as tf

from serving.server.batches import can_join, join, split
from serving.server.servable import Call, Signature

QUERY = tf.TensorSpec([None], tf.string)
WIDE = tf.TensorSpec([None, None], tf.string)
SEARCH = Signature({"query": QUERY}, {"score": ""})
EXCLUDING = Signature({"exclude": WIDE, "query": QUERY}, {"score": ""})
FILTERED = Signature({"k": tf.TensorSpec([None], tf.int32), "query": QUERY}, {})


def text(*values: str | list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def call(*inputs: np.ndarray) -> Call:
    return Call("search", inputs, ("score",))


def test_rows_are_put_one_below_the_other_and_narrow_ones_are_padded() -> None:
    first = call(text(["i1"]), text("red"))
    second = call(text(["i2", "i3"], ["i4", ""]), text("blue", "green"))
    exclude, query = join([first, second]).inputs
    assert query.tolist() == ["red", "blue", "green"]
    assert exclude.tolist() == [["i1", b""], ["i2", "i3"], ["i4", ""]]


def test_a_call_alone_stays_as_it_is() -> None:
    alone = call(text("red"))
    assert join([alone]) is alone
    scores = np.ones((1, 3))
    [[answer]] = split([alone], [scores], SEARCH)
    assert answer is scores


def test_each_call_gets_its_own_rows() -> None:
    calls = [call(text("a")), call(text("b", "c")), call(text("d"))]
    scores, counts = np.array([[1, 2], [3, 4], [5, 6], [7, 8]]), np.arange(4)
    answers = split(calls, [scores, counts], SEARCH)
    assert [a.tolist() for a, _ in answers] == [[[1, 2]], [[3, 4], [5, 6]], [[7, 8]]]
    assert [n.tolist() for _, n in answers] == [[0], [1, 2], [3]]


def test_a_call_gets_as_many_columns_as_it_asked_for_whatever_the_others_did() -> None:
    few = call(np.array([1], np.int32), text("a"))
    many = call(np.array([2, 3], np.int32), text("b", "c"))
    scores = np.array([[1, 0, 0], [2, 3, 0], [4, 5, 6]])
    [[first], [second]] = split([few, many], [scores], FILTERED)
    assert first.tolist() == [[1]]
    assert second.tolist() == [[2, 3, 0], [4, 5, 6]]


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        (
            EXCLUDING,
            [text(["i1"]), text("a", "b")],
        ),  # else another call's row makes up for it
        (Signature({"x": tf.TensorSpec([], tf.string)}, {}), [np.array("a", object)]),
        (
            Signature({"x": tf.TensorSpec([None, None], tf.float32)}, {}),
            [np.ones((1, 2))],
        ),
    ],
)
def test_calls_that_cannot_be_told_apart_again_are_not_joined(
    signature: Signature, inputs: list[np.ndarray]
) -> None:
    assert not can_join(call(*inputs), signature)
    assert can_join(call(text(["i1"]), text("a")), EXCLUDING)
