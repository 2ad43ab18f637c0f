"""What the services do when answering takes long or fails."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.server.model_config import ModelConfig
from tests.serving.serving_here import Served, SlowServable, serve_here


@pytest.fixture
def servable() -> SlowServable:
    return SlowServable()


@pytest.fixture
def served(tmp_path: Path, servable: SlowServable) -> Iterator[Served]:
    """Computes one batch at a time."""
    (tmp_path / "1").mkdir()
    config = ModelConfig("shop", tmp_path)
    with serve_here(config, load=lambda _: servable, num_threads=1) as served:  # type: ignore[arg-type,return-value]
        yield served
        servable.go.set()


@pytest.fixture
def ask(served: Served) -> Iterator[Callable[..., Any]]:
    """Starts a request."""
    with grpc.insecure_channel(served.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def start(query: str, timeout: float = 60.0) -> Any:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "shop"
            request.inputs["query"].CopyFrom(tf.make_tensor_proto([query]))
            return stub.Predict.future(request, timeout=timeout)

        yield start


def test_a_request_that_waited_past_its_deadline_is_not_computed(
    ask: Callable[..., Any], servable: SlowServable, served: Served
) -> None:
    first = ask("first")
    assert servable.entered.wait(60)
    late = ask("late", timeout=0.2)
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    servable.go.set()
    assert first.code() is grpc.StatusCode.OK
    served.server.stop(grace=10.0)
    assert servable.batches == [["first"]]
    # Whichever the server sees first: that the client has given up, or the deadline itself.
    counts = served.metrics.counts()
    assert counts.pop("OK") == 1
    assert counts in ({"CANCELLED": 1}, {"DEADLINE_EXCEEDED": 1})


def test_accepted_requests_are_answered_while_the_server_stops(
    ask: Callable[..., Any], servable: SlowServable, served: Served
) -> None:
    accepted = ask("first")
    assert servable.entered.wait(60)
    stopping = threading.Thread(target=served.server.stop, kwargs={"grace": 30.0})
    stopping.start()
    # Sent before the server had begun to stop, or in the very moment.
    early = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    while (refused := ask("too late", timeout=5.0)).code() in early:
        pass
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    servable.go.set()
    assert accepted.code() is grpc.StatusCode.OK
    stopping.join(timeout=60)
    assert not stopping.is_alive()
    assert servable.batches == [["first"]]


def test_a_bug_of_ours_shows_nothing_of_its_inside(
    ask: Callable[..., Any],
    servable: SlowServable,
    served: Served,
    caplog: pytest.LogCaptureFixture,
) -> None:
    servable.go.set()
    call = ask("bug")
    assert (call.code(), call.details()) == (
        grpc.StatusCode.INTERNAL,
        "the server failed on this request; its log says why",
    )
    assert "a secret" in caplog.text
    assert ask("fine").code() is grpc.StatusCode.OK
    assert served.metrics.counts() == {"INTERNAL": 1, "OK": 1}
