"""Replies, as any server may write them."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.client import Hit, SearchError
from serving.client.search_reply import read_reply, width

IDS = [["i7", "i3", ""], ["i5", "", ""]]
SCORES = [[0.5, 0.25, -np.inf], [0.125, -np.inf, -np.inf]]
HITS = [[Hit("i7", 0.5), Hit("i3", 0.25)], [Hit("i5", 0.125)]]


def content(dtype: tf.DType, shape: list[int], data: bytes) -> tensor_pb2.TensorProto:
    dims = tf.TensorShape(shape).as_proto()
    return tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=dims, tensor_content=data
    )


def packed_strings(strings: list[bytes], lengths: bytes) -> tensor_pb2.TensorProto:
    shape = [1, len(strings)]
    return content(tf.string, shape, lengths + b"".join(strings))


def reply(**outputs: Any) -> predict_pb2.PredictResponse:
    message = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(value)
        message.outputs[name].CopyFrom(value)
    return message


def as_field(values: Any) -> tensor_pb2.TensorProto:
    """As TensorFlow Serving writes float32: every value in float_val."""
    array = np.float32(values)
    return tensor_pb2.TensorProto(
        dtype=tf.float32.as_datatype_enum,
        tensor_shape=tf.TensorShape(array.shape).as_proto(),
        float_val=array.ravel(),
    )


def test_padding_is_no_hit_and_k_cuts() -> None:
    message = reply(item_id=IDS, score=as_field(SCORES))
    assert width(message) == 3
    assert [r.hits for r in read_reply(message, ["a", "b"], 3).results] == HITS
    assert [r.hits for r in read_reply(message, ["a", "b"], 9).results] == HITS
    cut = [[Hit("i7", 0.5)], [Hit("i5", 0.125)]]
    assert [r.hits for r in read_reply(message, ["a", "b"], 1).results] == cut


def test_values_may_be_in_the_content_of_the_tensor() -> None:
    # Lengths first, a byte each, then the strings.
    ids = content(tf.string, [2, 3], b"\2\2\0\2\0\0" + b"i7i3i5")
    scores = content(tf.float32, [2, 3], np.float32(SCORES).tobytes())
    counts = content(tf.int64, [2], np.int64([2, 1]).tobytes())
    message = reply(item_id=ids, score=scores, num_matching=counts)
    results = read_reply(message, ["a", "b"], 3).results
    assert [r.hits for r in results] == HITS
    assert [r.num_matching for r in results] == [2, 1]
    # TensorFlow itself reads these bytes so.
    parsed = tf.io.parse_tensor(ids.SerializeToString(), tf.string)
    assert parsed.numpy().tolist() == [[b"i7", b"i3", b""], [b"i5", b"", b""]]


def test_long_strings_in_the_content_have_lengths_of_several_bytes() -> None:
    strings = [b"x" * 300, b"y", b"z" * 128]
    ids = packed_strings(strings, b"\xac\x02" + b"\x01" + b"\x80\x01")
    parsed = tf.io.parse_tensor(ids.SerializeToString(), tf.string)
    assert parsed.numpy().tolist() == [strings]
    [result] = read_reply(
        reply(item_id=ids, score=as_field([[3, 2, 1]])), ["a"], 3
    ).results
    assert [hit.item_id.encode() for hit in result.hits] == strings


def test_a_last_value_that_repeats_may_be_there_once() -> None:
    score = as_field([[0.5, 0.5, 0.5]])
    del score.float_val[1:]
    message = reply(item_id=[["a", "b", "c"]], score=score)
    [result] = read_reply(message, ["q"], 3).results
    assert [hit.score for hit in result.hits] == [0.5, 0.5, 0.5]


def test_a_count_of_nothing_is_a_count() -> None:
    score = as_field([[-np.inf]])
    message = reply(item_id=[[""]], score=score, num_matching=np.int64([0]))
    [result] = read_reply(message, ["q"], 1).results
    assert (result.hits, result.num_matching) == ([], 0)


ONE = as_field([[1.0]])


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({}, "there is no item_id"),
        ({"item_id": [["i1"]]}, "there is no score"),
        ({"item_id": ["i1"], "score": [0.5]}, r"item_id is of shape \[1\]"),
        ({"item_id": [["i1"]], "score": [[1.0, 2.0]]}, r"score is of shape \[1, 2\]"),
        ({"item_id": [["i1"]] * 2, "score": [[1.0]] * 2}, r"of shape \[2, 1\]"),
        ({"item_id": [[1]], "score": ONE}, "item_id is of shape .* type 3"),
        ({"item_id": [["i1"]], "score": [["1"]]}, "score is of shape .* type 7"),
        ({"item_id": [[b"\xff"]], "score": ONE}, "can't decode byte 0xff"),
        ({"item_id": packed_strings([b"ab"], b"\3"), "score": ONE}, "are cut short"),
        ({"item_id": packed_strings([b""], b"\xac"), "score": ONE}, "are cut short"),
        (
            {"item_id": [["i1"]], "score": content(tf.float32, [1, 1], b"\0\0\0")},
            "not a multiple of item size",
        ),
        (
            {"item_id": [["i1"]], "score": content(tf.float32, [1, 1], b"\0" * 8)},
            "score holds 2 values instead of 1",
        ),
        (
            {
                "item_id": [["i1"]],
                "score": ONE,
                "num_matching": np.zeros(2, np.int64),
            },
            r"num_matching is of shape \[2\]",
        ),
    ],
)
def test_the_answer_of_some_other_model_is_refused(
    outputs: dict[str, Any], reason: str
) -> None:
    message = "did not answer with item_id and score for 1 queries .*" + reason
    with pytest.raises(SearchError, match=message):
        read_reply(reply(**outputs), ["tea"], 1)


def test_searching_needs_neither_tensorflow_nor_numpy() -> None:
    program = """
import sys
import serving.client.stubs
heavy = {"tensorflow", "numpy"} & {name.split(".")[0] for name in sys.modules}
assert not heavy, heavy

# And TensorFlow, imported afterwards, knows the same messages.
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
request = serving.client.stubs.PredictRequest()
request.inputs["query"].CopyFrom(tf.make_tensor_proto(["tea"]))
assert type(request.inputs["query"]) is tensor_pb2.TensorProto
assert tf.make_ndarray(request.inputs["query"]) == [b"tea"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
