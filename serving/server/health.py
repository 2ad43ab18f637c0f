"""The standard gRPC health service."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from serving.server.rpc import Handler, Rpc

PATH = f"/{health.SERVICE_NAME}/"
_SERVING, _NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


class Health:
    """grpc's own health servicer, which keeps what is well and who wants to be told, for calls of ours.

    The process, under "" and `services`, is well until it stops: a server that lacks a model is kept from requests, not
    killed. Each model is well, under its name, while it is served.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._servicer = health.HealthServicer()
        self._process = dict.fromkeys(("", *services), True)
        self._known: set[str] = set()
        self._watching: set[Rpc] = set()
        self.handlers: Mapping[str, Handler] = {
            f"{PATH}Check": self._check,
            f"{PATH}Watch": self._watch,
        }

    def set(self, serving: Mapping[str, bool]) -> None:
        """Tells which models are served."""
        gone = dict.fromkeys(self._known - serving.keys(), False)
        self._known = set(serving)
        for name, is_served in {**gone, **serving, **self._process}.items():
            self._servicer.set(name, _SERVING if is_served else _NOT_SERVING)

    def drain(self) -> None:
        """Nothing is well any more."""
        self._servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Ends the calls that would otherwise never end."""
        for rpc in self._watching.copy():
            rpc.fail(grpc.StatusCode.UNAVAILABLE, "the server stops")

    def _check(self, rpc: Rpc, data: bytes) -> None:
        request = _parse(rpc, data)
        if request is None:
            return
        context = _Context()
        reply = self._servicer.Check(request, context)
        if context.code is None:
            rpc.finish(reply.SerializeToString())
        else:
            rpc.fail(context.code, "no such service is known")

    def _watch(self, rpc: Rpc, data: bytes) -> None:
        request = _parse(rpc, data)
        if request is None:
            return

        def send(reply: Any) -> None:
            if reply is not None:  # which stands for the end
                rpc.send(reply.SerializeToString())

        def forget() -> None:
            self._watching.discard(rpc)
            for callback in context.callbacks:
                callback()

        context = _Context()
        self._watching.add(rpc)
        self._servicer.Watch(request, context, send)
        rpc.when_gone(forget)


class _Context:
    """What the servicer says of a call, and what it wants to have called at its end."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.callbacks: list[Callable[[], None]] = []

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def add_callback(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


def _parse(rpc: Rpc, data: bytes) -> health_pb2.HealthCheckRequest | None:
    try:
        return health_pb2.HealthCheckRequest.FromString(data)
    except DecodeError:
        rpc.fail(grpc.StatusCode.INVALID_ARGUMENT, "this is no HealthCheckRequest")
        return None
