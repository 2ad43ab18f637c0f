"""Requests that nobody would write by hand: each gets a status, and the server goes on."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server.model_config import ModelConfig
from tests.serving.serving_here import Served, serve_here

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CODE = grpc.StatusCode
MISTAKES = {CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.FAILED_PRECONDITION}
SIGNATURES = ("", "serving_default", "search_excluding", "embed_query", "embed_item")


@pytest.fixture(scope="module")
def served(exact_version: Path) -> Iterator[Served]:
    """A server that nobody else asks, so that its counts are ours."""
    with serve_here(ModelConfig("shop", exact_version.parent)) as served:
        yield served


@pytest.fixture(scope="module")
def predict(served: Served) -> Iterator[Callable[[bytes], CODE]]:
    """Sends bytes as a PredictRequest."""
    with grpc.insecure_channel(served.target) as channel:
        call = channel.unary_unary(PREDICT)

        def send(request: bytes) -> CODE:
            try:
                call(request, timeout=20)
            except grpc.RpcError as e:
                assert len(e.details()) <= 1024
                assert "Traceback" not in e.details()
                return e.code()
            return CODE.OK

        yield send


def request(signature: str = "", **inputs: tensor_pb2.TensorProto) -> bytes:
    message = predict_pb2.PredictRequest(inputs=inputs)
    message.model_spec.name, message.model_spec.signature_name = "shop", signature
    return message.SerializeToString()


def valid() -> list[bytes]:
    query = tf.make_tensor_proto(["red shoe", "hat"])
    exclude = tf.make_tensor_proto([["i1", ""], ["", ""]])
    return [
        request(query=query),
        request("search_excluding", query=query, exclude=exclude),
    ]


def random_tensor(rng: np.random.Generator) -> tensor_pb2.TensorProto:
    """Any dtype that there is or is not, any shape, values that fit neither."""
    proto = tensor_pb2.TensorProto(dtype=int(rng.choice([*range(30), 101, 107])))
    for _ in range(rng.integers(0, 5)):
        size = int(rng.choice([-(2**63), -1, 0, 1, 2, 3, 2**31, 2**62, 2**63 - 1]))
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = bool(rng.random() < 0.1)
    if rng.random() < 0.7:
        proto.string_val.extend(
            rng.bytes(rng.integers(0, 40)) for _ in range(rng.integers(0, 4))
        )
    if rng.random() < 0.3:
        proto.float_val.extend([float("nan"), float("inf"), -0.0][: rng.integers(0, 4)])
    if rng.random() < 0.3:
        proto.tensor_content = rng.bytes(rng.integers(0, 50))
    return proto


@pytest.mark.parametrize("seed", range(4))
def test_any_tensor_gets_an_answer_or_a_refusal(
    predict: Callable[[bytes], CODE], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = ["query", "exclude", "title", "price", "Brand__EU_", "", "\x00", "k" * 1000]
    for _ in range(100):
        chosen = rng.choice(names, size=rng.integers(0, 4), replace=False)
        inputs = {str(name): random_tensor(rng) for name in chosen}
        code = predict(request(str(rng.choice(SIGNATURES)), **inputs))
        assert code in MISTAKES | {CODE.OK}
    assert predict(valid()[0]) is CODE.OK


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_get_an_answer_or_a_refusal(
    predict: Callable[[bytes], CODE], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(100):
        data = bytearray(valid()[rng.integers(2)])
        for _ in range(rng.integers(1, 6)):
            place = rng.integers(len(data))
            match rng.integers(3):
                case 0:
                    data[place] = rng.integers(256)
                case 1:
                    del data[place : place + rng.integers(1, 8)]
                case 2:
                    data[place:place] = rng.bytes(rng.integers(1, 8))
        assert predict(bytes(data)) in MISTAKES | {CODE.OK}
    assert predict(valid()[0]) is CODE.OK


def length_delimited(field: int, content: bytes) -> bytes:
    """One field of a protobuf message."""
    size, prefix = len(content), bytearray([field << 3 | 2])
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes([*prefix, size]) + content


def test_nesting_without_end_is_refused(predict: Callable[[bytes], CODE]) -> None:
    tensor = b"\x08\x07"
    for _ in range(2000):  # variant_val (15) holds tensors (3) that hold variant_val
        tensor = length_delimited(15, length_delimited(3, tensor))
    entry = length_delimited(1, b"query") + length_delimited(2, tensor)
    assert predict(length_delimited(2, entry)) in MISTAKES
    assert predict(valid()[0]) is CODE.OK


@pytest.mark.parametrize(
    "query",
    [
        b"\xff\xfe",
        b"\xed\xa0\xbd",  # half a surrogate pair
        b"red\x00shoe",
        b"\xf4\x90\x80\x80",  # beyond Unicode
        "‮shoe".encode(),
        b"(" * 1000,
        "ﷺ".encode() * 300,  # a character that normalises to eighteen
        b"a" * 1025,
        b"\n" * 1024,
    ],
)
def test_any_text_is_a_query_or_a_callers_mistake(
    predict: Callable[[bytes], CODE], query: bytes
) -> None:
    tensor = tf.make_tensor_proto([query])
    for signature in ("serving_default", "embed_query"):
        assert predict(request(signature, query=tensor)) in {
            CODE.OK,
            CODE.INVALID_ARGUMENT,
        }


def test_a_request_beyond_the_limit_is_refused_before_it_is_read(
    predict: Callable[[bytes], CODE],
) -> None:
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, string_val=[b"a" * (17 << 20)]
    )
    tensor.tensor_shape.dim.add(size=1)
    assert predict(request(query=tensor)) is CODE.RESOURCE_EXHAUSTED
    assert predict(valid()[0]) is CODE.OK


def test_bytes_that_are_no_message_at_all_are_refused(
    predict: Callable[[bytes], CODE],
) -> None:
    for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", struct.pack("<I", 1) * 100):
        assert predict(data) is CODE.INVALID_ARGUMENT
    assert predict(b"") is CODE.INVALID_ARGUMENT  # a PredictRequest that names no model


def test_what_is_left_of_a_fuzz_is_a_working_server(served: Any) -> None:
    assert served.metrics.counts().keys() <= {
        *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "CANCELLED")
    }
