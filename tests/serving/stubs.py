"""Requests with the official stubs, and what is refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Stubs(NamedTuple):
    """Both services of one server."""

    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    model: model_service_pb2_grpc.ModelServiceStub


def connect(channel: grpc.Channel) -> Stubs:
    return Stubs(
        prediction_service_pb2_grpc.PredictionServiceStub(channel),
        model_service_pb2_grpc.ModelServiceStub(channel),
    )


def predict_request(
    name: str = "shop", /, *, signature: str = "", **inputs: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        proto = (
            value
            if isinstance(value, tensor_pb2.TensorProto)
            else tf.make_tensor_proto(value)
        )
        request.inputs[key].CopyFrom(proto)
    return request


def refusal(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value.code(), caught.value.details()


def status_of(stubs: Stubs, name: str = "shop") -> dict[int, tuple[int, str]]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    reply = stubs.model.GetModelStatus(request, timeout=20)
    return {
        s.version: (s.state, s.status.error_message) for s in reply.model_version_status
    }
