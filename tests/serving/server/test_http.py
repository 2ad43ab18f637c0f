"""The REST API as an HTTP server: lengths, slow and broken clients, many connections, stopping."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.server import connections, rest
from serving.server.__main__ import main
from serving.server.model_config import ModelConfig
from serving.server.rest import RestServer
from tests.serving.server.rest_client import PREDICT, SHOP, free_port, send, send_raw
from tests.serving.serving_here import Served, SlowServable, serve_here
from tfrs_mmse.cli import CommandError


@pytest.mark.parametrize(
    ("head", "status", "message"),
    [
        ("", 411, "send the body with its Content-Length"),
        (
            "Transfer-Encoding: chunked\r\n",
            411,
            "send the body with its Content-Length",
        ),
        (
            "Content-Length: two\r\n",
            400,
            "Content-Length must be one whole number of bytes",
        ),
        (
            "Content-Length: -1\r\n",
            400,
            "Content-Length must be one whole number of bytes",
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            400,
            "Content-Length must be one whole number of bytes",
        ),
        (
            "Content-Length: 16777217\r\n",
            413,
            "the body holds 16777217 bytes, at most 16777216 are taken",
        ),
    ],
)
def test_a_length_that_cannot_be_is_refused(
    port: int, head: str, status: int, message: str
) -> None:
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()
    # Without and with bytes that nobody reads.
    for body in (b"", b"{}"):
        assert send_raw(port, request + body) == (status, {"error": message})


def test_what_is_too_large_is_refused_though_the_client_sends_it_all(
    client: http.client.HTTPConnection,
) -> None:
    status, reply = send(client, "POST", PREDICT, b" " * ((16 << 20) + 1))
    assert status == 413
    assert reply["error"].startswith("the body holds 16777217 bytes")


def test_the_largest_body_is_taken(client: http.client.HTTPConnection) -> None:
    body = b'{"instances": ["red shoe"]}'.ljust(16 << 20)
    status, reply = send(client, "POST", PREDICT, body)
    assert (status, reply["predictions"][0]["item_id"][0]) == (200, "i0")


def test_a_body_that_ends_early_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
        connection.sendall(head.encode() + b"{}")
        connection.shutdown(socket.SHUT_WR)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        message = "the body ends after 2 bytes, but its Content-Length is 10"
        assert (reply.status, json.loads(reply.read())) == (400, {"error": message})


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\n\r\n", 400),
        (b"GET /v1/models/shop HTTP/9.9\r\n\r\n", 505),
        (b"BREW /v1/models/shop HTTP/1.1\r\n\r\n", 501),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_gets_one_sentence(
    port: int, request_bytes: bytes, status: int
) -> None:
    found, reply = send_raw(port, request_bytes)
    assert found == status
    assert list(reply) == ["error"]
    assert "\n" not in reply["error"]


def test_a_slow_client_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "CLIENT_SECONDS", 0.3)
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 10\r\n\r\n".encode()
    message = "the body of 10 bytes did not come within 0.3 seconds"
    assert send_raw(port, head + b"{}") == (408, {"error": message})
    for silent in (b"", b"POST /v1", head[:-2]):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(silent)
            assert connection.recv(1) == b""


def test_a_client_that_sends_byte_by_byte_has_no_more_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "CLIENT_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=0.05) as connection:
        for _ in range(600):
            try:
                connection.sendall(b"G")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("the connection is open after 30 seconds")


def test_many_clients_at_once_get_their_own_answers(port: int) -> None:
    def ask(colour: str) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = {"instances": [f"{colour} hat"]}
        replies = [send(connection, "POST", PREDICT, body)[1] for _ in range(10)]
        connection.close()
        return [reply["predictions"][0]["item_id"][0] for reply in replies]

    with ThreadPoolExecutor(8) as pool:
        best = list(pool.map(ask, ["red", "lime"] * 4))
    assert best == [["i1"] * 10, ["i91"] * 10] * 4


def test_a_connection_is_kept_and_can_be_pipelined(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        get = f"GET {SHOP} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        last = get.replace(b"Host", b"Connection: close\r\nHost")
        connection.sendall(get + get + last)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3


def test_more_connections_than_allowed_are_refused(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 0)
    message = "too many connections are open: try again later"
    assert send_raw(port, b"") == (503, {"error": message})


@pytest.fixture
def servable() -> SlowServable:
    return SlowServable()


@pytest.fixture
def slow(tmp_path: Path, servable: SlowServable) -> Iterator[tuple[RestServer, Served]]:
    (tmp_path / "1").mkdir()
    config = ModelConfig("shop", tmp_path)
    with serve_here(config, load=lambda _: servable) as served:  # type: ignore[arg-type,return-value]
        server = RestServer(served.models, served.metrics, host="127.0.0.1", port=0)
        yield server, served
        servable.go.set()
        server.stop(grace=10.0)


def test_a_bug_of_ours_shows_nothing_of_its_inside(
    slow: tuple[RestServer, Served],
    servable: SlowServable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, served = slow
    servable.go.set()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = {"inputs": {"query": ["bug"]}}
    assert send(client, "POST", PREDICT, body) == (
        500,
        {"error": "the server failed on this request; its log says why"},
    )
    assert "a secret" in caplog.text
    body = {"inputs": {"query": ["hat"]}}
    assert send(client, "POST", PREDICT, body) == (200, {"outputs": [3.0]})
    assert send(client, "POST", PREDICT, b"?")[0] == 400
    client.close()
    assert served.metrics.counts() == {"INTERNAL": 1, "INVALID_ARGUMENT": 1, "OK": 1}


def test_accepted_requests_are_answered_while_the_server_stops(
    slow: tuple[RestServer, Served],
    servable: SlowServable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, _ = slow
    monkeypatch.setattr(rest, "CLIENT_SECONDS", 3600.0)
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("POST", PREDICT, json.dumps({"inputs": {"query": ["hat"]}}))
    assert servable.entered.wait(60)
    stopping = threading.Thread(target=server.stop, kwargs={"grace": 30.0})
    stopping.start()
    # It is closed at once, not when its time is over.
    assert idle.recv(1) == b""
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=30).recv(1)
    assert stopping.is_alive()
    servable.go.set()
    reply = client.getresponse()
    assert (reply.status, reply.headers["Connection"]) == (200, "close")
    assert json.loads(reply.read()) == {"outputs": [3.0]}
    stopping.join(timeout=60)
    assert not stopping.is_alive()
    idle.close()
    client.close()


def test_the_server_answers_both_protocols_and_drains_on_sigterm(
    exact_version: Path, start_server: Callable[..., Any]
) -> None:
    port = free_port()
    server = start_server(exact_version.parent, "--rest_api_port", str(port))
    assert server.lines[-2:] == [
        f"REST API on 127.0.0.1:{port}",
        f"serving shop version 1 on {server.target}",
    ]
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    assert send(kept, "GET", SHOP)[0] == 200
    assert send(kept, "POST", PREDICT, b"?")[0] == 400
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    request.inputs["query"].CopyFrom(tf.make_tensor_proto(["hat"]))
    with grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(request, timeout=20)

    answers: list[int] = []

    def ask() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            while True:
                body = {"instances": ["hat"] * 100}
                answers.append(send(client, "POST", PREDICT, body)[0])
        except (OSError, http.client.HTTPException):
            client.close()

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    while len(answers) < 8:
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    out, _ = server.process.communicate(timeout=60)
    for thread in asking:
        thread.join()
    assert server.process.returncode == 0
    assert set(answers) == {200}
    # Every request that was answered was counted, and none was answered by half.
    requests = {"INVALID_ARGUMENT": 1, "OK": len(answers) + 2}
    assert json.loads(out) == {"requests": requests}
    assert not [line for line in server.lines if "Traceback" in line]
    kept.close()


def test_a_port_in_use_is_one_sentence(
    exact_version: Path,
    served: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--model_base_path", str(exact_version.parent), "--model_name", "shop"]
        flags += ["--host", "127.0.0.1", "--port", "0", "--rest_api_port", str(port)]
        assert main(flags) == 1
        message = (
            f"cannot listen on 127.0.0.1:{port}: another program uses the port, or it may not be used; "
            "choose another --rest_api_port (0: no REST API)"
        )
        assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"
        with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}"):
            RestServer(
                served.models,
                served.metrics,
                host="127.0.0.1",
                port=port,
            )
