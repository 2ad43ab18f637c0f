"""What the services do when answering takes long or fails."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.manager import VersionManager
from serving.served_model import RequestCounts
from serving.service import BoundServer


class SlowServable:
    """Answers once it is let go; fails on the query `bug`."""

    def __init__(self) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        self.queries: list[str] = []

    def predict(
        self, signature_name: str, inputs: Any, output_filter: Any
    ) -> dict[str, np.ndarray]:
        [query] = inputs["query"].string_val
        self.queries.append(query.decode())
        self.entered.set()
        assert self.go.wait(60)
        if query == b"bug":
            raise ZeroDivisionError("a secret")
        return {"score": np.ones((1, 1), np.float32)}

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def servable() -> SlowServable:
    return SlowServable()


@pytest.fixture
def counts() -> RequestCounts:
    return RequestCounts()


@pytest.fixture
def server(
    tmp_path: Path, servable: SlowServable, counts: RequestCounts
) -> Iterator[BoundServer]:
    """Answers one request at a time."""
    (tmp_path / "1").mkdir()
    manager = VersionManager(tmp_path, "shop", load=lambda _: servable)  # type: ignore[arg-type,return-value]
    manager.refresh()
    server = BoundServer(
        manager, "shop", counts, host="127.0.0.1", port=0, max_workers=1
    )
    yield server
    servable.go.set()
    server.stop(grace=10.0)


@pytest.fixture
def ask(server: BoundServer) -> Iterator[Callable[..., Any]]:
    """Starts a request."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def start(query: str, timeout: float = 60.0) -> Any:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "shop"
            request.inputs["query"].CopyFrom(tf.make_tensor_proto([query]))
            return stub.Predict.future(request, timeout=timeout)

        yield start


def test_a_request_that_waited_past_its_deadline_is_not_computed(
    ask: Callable[..., Any],
    servable: SlowServable,
    server: BoundServer,
    counts: RequestCounts,
) -> None:
    first = ask("first")
    assert servable.entered.wait(60)
    late = ask("late", timeout=0.2)
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    servable.go.set()
    assert first.code() is grpc.StatusCode.OK
    server.stop(grace=10.0)
    assert servable.queries == ["first"]
    assert counts.to_dict()["OK"] == 1


def test_accepted_requests_are_answered_while_the_server_stops(
    ask: Callable[..., Any], servable: SlowServable, server: BoundServer
) -> None:
    accepted = ask("first")
    assert servable.entered.wait(60)
    stopping = threading.Thread(target=server.stop, kwargs={"grace": 30.0})
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
    assert "too late" not in servable.queries


def test_a_bug_of_ours_shows_nothing_of_its_inside(
    ask: Callable[..., Any],
    servable: SlowServable,
    counts: RequestCounts,
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
    assert counts.to_dict() == {"INTERNAL": 1, "OK": 1}
