"""Calls that are answered later and by other threads, over a real socket and with grpc's own client."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from serving.server.rpc import Handler, Route, Rpc
from serving.server.rpc_server import RpcServer

Serve = Callable[..., grpc.Channel]


def echo(rpc: Rpc, data: bytes) -> None:
    rpc.finish(data)
    rpc.finish(b"again")
    rpc.fail(grpc.StatusCode.INTERNAL, "again")


@pytest.fixture
def servers() -> list[RpcServer]:
    return []


@pytest.fixture
def serve(servers: list[RpcServer]) -> Iterator[Serve]:
    """Starts a server with one handler for all methods, and gives a channel to it."""
    channels = []

    def start(
        handler: Handler = echo,
        route: Route | None = None,
        **more: Any,
    ) -> grpc.Channel:
        more = {"max_in_flight": 10_000, "unlimited": "/probe", **more}
        servers.append(RpcServer("127.0.0.1:0", route or (lambda rpc: handler), **more))
        channels.append(grpc.insecure_channel(f"127.0.0.1:{servers[-1].port}"))
        return channels[-1]

    yield start
    for channel in channels:
        channel.close()
    for server in servers:
        server.stop(grace=0.0)


def ask(channel: grpc.Channel, data: bytes = b"x", timeout: float = 20.0) -> Any:
    return channel.unary_unary("/a.B/C").future(data, timeout=timeout)


def test_only_the_first_answer_counts(serve: Serve) -> None:
    assert ask(serve(), b"tea").result() == b"tea"


def test_a_call_knows_its_method_its_token_and_its_deadline(serve: Serve) -> None:
    seen: list[tuple[str, str, float]] = []

    def handler(rpc: Rpc, data: bytes) -> None:
        seen.append((rpc.method, rpc.authorization, rpc.time_remaining))
        rpc.finish(b"")

    method = serve(handler).unary_unary("/a.B/C")
    method(b"", timeout=20, metadata=[("authorization", "Bearer me")])
    method(b"")
    assert [call[:2] for call in seen] == [("/a.B/C", "Bearer me"), ("/a.B/C", "")]
    assert 10 < seen[0][2] < 21  # clocks are rounded
    assert seen[1][2] > 1e9


@pytest.mark.parametrize("is_read", [True, False])
def test_a_refusal_brings_its_code_and_its_sentence(
    serve: Serve, is_read: bool
) -> None:
    def refuse(rpc: Rpc, data: bytes = b"") -> None:
        rpc.fail(grpc.StatusCode.FAILED_PRECONDITION, "Fräulein, 10% zu spät")

    call = ask(serve(route=lambda rpc: refuse if is_read else refuse(rpc)))
    assert call.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert call.details() == "Fräulein, 10% zu spät"


def test_a_stream_gets_the_newest_message_and_its_end(serve: Serve) -> None:
    def count(rpc: Rpc, data: bytes) -> None:
        for number in range(100):
            rpc.send(b"%d" % number)
        threading.Timer(
            0.3, lambda: rpc.fail(grpc.StatusCode.UNAVAILABLE, "over")
        ).start()

    found = []
    with pytest.raises(grpc.RpcError, match="over"):
        for message in serve(count).unary_stream("/a.B/C")(b"", timeout=20):
            found.append(int(message))
    # The first is on its way before there is a second; what a slow client missed in between is old.
    assert (found[0], found[-1]) == (0, 99)
    assert found == sorted(set(found))


def test_who_answers_learns_that_the_client_has_gone(serve: Serve) -> None:
    gone, calls = threading.Event(), []

    def handler(rpc: Rpc, data: bytes) -> None:
        rpc.when_gone(gone.set)
        calls.append(rpc)

    assert ask(serve(handler), timeout=0.2).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert gone.wait(20)
    assert calls[0].is_over
    calls[0].finish(b"late")
    too_late = threading.Event()
    calls[0].when_gone(too_late.set)
    assert too_late.is_set()


def test_a_request_that_is_too_large_is_refused(serve: Serve) -> None:
    channel = serve(options=[("grpc.max_receive_message_length", 100)])
    assert ask(channel, b"x" * 101).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(channel, b"x" * 100).code() is grpc.StatusCode.OK


def test_a_call_without_a_message_is_answered(serve: Serve) -> None:
    call = serve().stream_unary("/a.B/C").future(iter([]), timeout=20)
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED


def test_calls_beyond_the_limit_are_refused_until_others_end(serve: Serve) -> None:
    waiting: list[Rpc] = []
    channel = serve(lambda rpc, data: waiting.append(rpc), max_in_flight=2)
    first = [ask(channel), ask(channel)]
    while len(waiting) < 2:
        time.sleep(0.01)
    refused = ask(channel)
    assert (refused.code(), refused.details()) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the server is busy with 2 requests: ask again later",
    )
    probe = channel.unary_unary("/probe").future(b"", timeout=20)
    while len(waiting) < 3:
        time.sleep(0.01)
    waiting.pop().finish(b"well")
    assert probe.result() == b"well"
    for rpc in waiting:
        rpc.finish(b"")
    assert [call.code() for call in first] == [grpc.StatusCode.OK] * 2
    while ask(channel, timeout=0.1).code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        pass  # until the server has seen their ends
    assert len(waiting) == 3


def test_a_burst_is_answered_and_nobody_is_sent_away_with_another_code(
    serve: Serve,
) -> None:
    asleep = threading.Event()

    def handler(rpc: Rpc, data: bytes) -> None:
        if data == b"sleep":
            asleep.set()
            time.sleep(1.5)
        rpc.finish(data)

    channel = serve(handler)
    first = ask(channel, b"sleep")
    assert asleep.wait(20)
    # gRPC's core by itself would cancel some of more than a thousand that wait to be accepted.
    calls = [ask(channel, b"%d" % number, timeout=60) for number in range(4000)]
    assert [call.result() for call in calls] == [b"%d" % n for n in range(4000)]
    assert first.result() == b"sleep"


def test_what_had_to_wait_for_the_server_knows_how_long(serve: Serve) -> None:
    waited: list[float] = []

    def slow(rpc: Rpc, data: bytes) -> None:
        waited.append(rpc.waited)
        time.sleep(0.6)
        rpc.finish(b"")

    channel = serve(slow)
    assert ask(channel).code() is grpc.StatusCode.OK
    time.sleep(0.1)
    first = ask(channel)
    while len(waited) < 2:
        time.sleep(0.01)
    second = ask(channel)  # while the server's thread sleeps
    assert first.code() is second.code() is grpc.StatusCode.OK
    time.sleep(0.1)
    assert ask(channel).code() is grpc.StatusCode.OK
    assert max(waited[0], waited[1], waited[3]) < 0.3
    assert 0.4 < waited[2] < 10


def test_a_bug_in_one_call_does_not_end_the_others(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(rpc: Rpc, data: bytes) -> None:
        if data == b"bug":
            raise ZeroDivisionError("a secret")
        rpc.finish(b"fine")

    channel = serve(handler)
    bug = ask(channel, b"bug")
    assert ask(channel).result() == b"fine"
    assert bug.code() is grpc.StatusCode.INTERNAL
    assert "a secret" not in bug.details()
    assert "a secret" in caplog.text


def test_stopping_waits_for_the_accepted_and_cancels_what_takes_too_long(
    serve: Serve, servers: list[RpcServer]
) -> None:
    waiting: list[Rpc] = []
    channel = serve(lambda rpc, data: waiting.append(rpc))
    calls = [ask(channel), ask(channel)]
    while len(waiting) < 2:
        time.sleep(0.01)
    stopping = threading.Thread(target=servers[0].stop, args=[1.0])
    stopping.start()
    time.sleep(0.1)
    waiting[0].finish(b"done")
    stopping.join(timeout=60)
    assert not stopping.is_alive()
    codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) == 1
    assert codes.count(grpc.StatusCode.UNAVAILABLE) == 1
    waiting[1].finish(b"too late")
    servers.clear()


def test_a_port_that_is_taken_is_told(serve: Serve, servers: list[RpcServer]) -> None:
    options = [("grpc.so_reuseport", 0)]
    serve(options=options)
    taken = f"127.0.0.1:{servers[0].port}"
    more: Any = {"max_in_flight": 1, "unlimited": "/probe"}
    other = RpcServer(taken, lambda rpc: echo, options=options, **more)
    assert other.port == 0


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_call_leaves_nothing_for_the_garbage_collector(
    serve: Serve, is_answered: bool
) -> None:
    seen: list[weakref.ref[Rpc]] = []

    def handler(rpc: Rpc, data: bytes) -> None:
        seen.append(weakref.ref(rpc))
        rpc.when_gone(lambda: rpc)  # a circle, if the call keeps it
        if is_answered:
            rpc.finish(data)

    channel = serve(handler)
    gc.disable()
    try:
        for _ in range(10):
            ask(channel, timeout=20.0 if is_answered else 0.05).code()
        end = time.monotonic() + 20  # until the server has seen their ends
        while any(ref() for ref in seen) and time.monotonic() < end:
            time.sleep(0.01)
        assert seen
        assert [ref() for ref in seen] == [None] * len(seen)
    finally:
        gc.enable()
