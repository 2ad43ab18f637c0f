"""What probes and dashboards see."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.server.metrics import GRPC, REST, Metrics
from serving.server.model_config import ModelConfig
from tests.serving.serving_here import SlowServable, serve_here

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)
PREDICTION = "tensorflow.serving.PredictionService"


def fake(directory: Path) -> Any:
    return SlowServable()


def health(target: str, service: str) -> Any:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return stub.Check(request, timeout=20).status


def test_each_model_is_ready_when_it_is_served_and_the_process_lives_without(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop/1").mkdir(parents=True)
    configs = [ModelConfig(name, tmp_path / name) for name in ("shop", "books")]
    with serve_here(*configs, load=fake) as served:
        names = ("shop", "books", "", PREDICTION)
        assert [health(served.target, name) for name in names] == [
            *(SERVING, NOT_SERVING, SERVING, SERVING)
        ]
        (tmp_path / "books/1").mkdir(parents=True)
        served.models.refresh()
        served.server.set_health({"shop": True, "books": True})
        assert {health(served.target, name) for name in names} == {SERVING}
        served.server.drain()
        assert {health(served.target, name) for name in names} == {NOT_SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            health(served.target, "toys")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels, without buckets."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            if "le" not in sample.labels:
                found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return found


def test_requests_are_counted_under_the_names_that_tensorflow_serving_gives() -> None:
    metrics = Metrics()
    metrics.set_versions("shop", [7, 3])
    for entrypoint in (GRPC, REST, GRPC):
        metrics.begin("shop", "Predict", entrypoint)(grpc.StatusCode.OK)
    metrics.begin("shop", "Predict", GRPC)(grpc.StatusCode.INVALID_ARGUMENT)
    found = samples(metrics)
    count, latency = (
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency_count",
    )
    assert found[count, "OK", "shop"] == 3
    assert found[count, "INVALID_ARGUMENT", "shop"] == 1
    assert found[latency, "GRPC", "Predict", "shop"] == 3
    assert found[latency, "Predict", "REST", "shop"] == 1
    assert found["tfrs_mmse_version", "shop"] == 7
    assert metrics.counts() == {"INVALID_ARGUMENT": 1, "OK": 3}


def test_strangers_cannot_fill_the_memory_with_names() -> None:
    metrics = Metrics()
    metrics.set_versions("shop", [1])
    for number in range(100):
        metrics.begin(f"name-{number}", "Predict", GRPC)(grpc.StatusCode.OK)
    assert samples(metrics)[":tensorflow:serving:request_count", "OK", "unknown"] == 100
    assert b"name-" not in metrics.text()


def test_a_server_of_two_models_follows_its_config_file(
    exact_version: Path, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    for version in ("1", "2"):
        shutil.copytree(exact_version, tmp_path / "shop" / version)
    file = tmp_path / "models.config"

    def configure(*configs: str) -> None:
        text = "".join(f"config {{ {config} }}" for config in configs)
        (tmp_path / "new").write_text(f"model_config_list {{ {text} }}")
        (tmp_path / "new").rename(file)

    shop = (
        f'name: "shop" base_path: "{tmp_path}/shop" model_version_policy {{ all {{}} }}'
    )
    books = f'name: "books" base_path: "{tmp_path}/books"'
    stable = 'version_labels { key: "stable" value: %d }'
    configure(f"{shop} {stable % 1}", books)
    server = start_server(
        None,
        *("--model_config_file", str(file)),
        *("--model_config_file_poll_wait_seconds", "0.1"),
        *("--file_system_poll_wait_seconds", "0.1"),
    )

    def wait_for(line: str) -> None:
        for _ in range(600):
            if any(line in said for said in server.lines):
                return
            time.sleep(0.1)
        raise AssertionError(server.lines)

    def stable_version() -> int:
        with grpc.insecure_channel(server.target) as channel:
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = "shop"
            request.model_spec.version_label = "stable"
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            [found] = stub.GetModelStatus(request, timeout=20).model_version_status
            return found.version

    wait_for("serving shop version 2 on")
    assert stable_version() == 1
    assert [health(server.target, n) for n in ("shop", "books")] == [
        *(SERVING, NOT_SERVING)
    ]
    shutil.copytree(exact_version, tmp_path / ".books-1")
    (tmp_path / "books").mkdir()
    (tmp_path / ".books-1").rename(tmp_path / "books/1")
    wait_for("serving books version 1 on")
    assert health(server.target, "books") == SERVING
    configure("nonsense")
    wait_for(f"what {file} held stays in force: ")
    assert stable_version() == 1
    configure(f"{shop} {stable % 2}")
    wait_for("books is no longer served")
    assert stable_version() == 2
    assert [health(server.target, n) for n in ("", "shop", "books")] == [
        *(SERVING, SERVING, NOT_SERVING)
    ]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0


def test_who_watches_is_told_of_changes_and_of_the_end(tmp_path: Path) -> None:
    config = ModelConfig("shop", tmp_path / "shop")
    with (
        serve_here(config, load=fake) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="shop"))
        assert next(watch).status == NOT_SERVING
        served.server.set_health({"shop": True})
        assert next(watch).status == SERVING
        gone = stub.Watch(health_pb2.HealthCheckRequest(service="shop"))
        assert next(gone).status == SERVING
        gone.cancel()
        served.server.drain()
        assert next(watch).status == NOT_SERVING
        served.server.stop(grace=60.0)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_strangers_cannot_watch_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.server.health._MAX_WATCHING", 1)
    config = ModelConfig("shop", tmp_path / "shop")
    with (
        serve_here(config, load=fake) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="toys"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        for name, code in [
            ("shop", grpc.StatusCode.RESOURCE_EXHAUSTED),
            ("x" * 1025, grpc.StatusCode.INVALID_ARGUMENT),
        ]:
            other = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert other.code() is code
        watch.cancel()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            another = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
            try:
                assert next(another).status == SERVING
                break
            except grpc.RpcError as e:  # until the first one's end is seen
                assert e.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        another.cancel()
