"""The standard gRPC health service."""

import threading
from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from serving.server.rpc import Handler, Rpc

PATH = f"/{health.SERVICE_NAME}/"
_MAX_WATCHING = 256  # each holds a call open, and needs no token
_MAX_NAME = 1024  # characters
_Status = health_pb2.HealthCheckResponse


class Health:
    """Which models are served, for those who ask and those who want to be told.

    The process, under "" and `services`, is well until it stops: a server that lacks a model is kept from requests, not
    killed. Each model is well, under its name, while it is served.

    Attributes:
        handlers: By path.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self.handlers: Mapping[str, Handler] = {
            f"{PATH}Check": self._check,
            f"{PATH}Watch": self._watch,
        }
        self._lock = threading.Lock()
        self._is_well = dict.fromkeys(("", *services), True)
        self._models: set[str] = set()
        self._watching: dict[Rpc, str] = {}
        self._is_draining = self._is_closed = False

    def set(self, serving: Mapping[str, bool]) -> None:
        """Tells which models are served; nothing changes any more after `drain`."""
        with self._lock:
            if self._is_draining:
                return
            gone = dict.fromkeys(self._models - serving.keys(), False)
            self._models = set(serving)
            self._change({**gone, **serving})

    def drain(self) -> None:
        """Nothing is well any more."""
        with self._lock:
            self._is_draining = True
            self._change(dict.fromkeys(self._is_well, False))

    def close(self) -> None:
        """Ends the calls that would otherwise never end."""
        with self._lock:
            self._is_closed = True
            watching, self._watching = self._watching, {}
        for rpc in watching:
            rpc.fail(grpc.StatusCode.UNAVAILABLE, "the server stops")

    def _change(self, is_well: Mapping[str, bool]) -> None:
        changed = {k for k, well in is_well.items() if self._is_well.get(k) != well}
        self._is_well.update(is_well)
        for rpc, name in self._watching.items():
            if name in changed:
                rpc.send(self._status(name))

    def _status(self, name: str) -> bytes:
        status = {
            True: _Status.SERVING,
            False: _Status.NOT_SERVING,
            None: _Status.SERVICE_UNKNOWN,
        }[self._is_well.get(name)]
        return _Status(status=status).SerializeToString()

    def _check(self, rpc: Rpc, data: bytes) -> None:
        name = _name(rpc, data)
        if name is None:
            return
        with self._lock:
            is_known, status = name in self._is_well, self._status(name)
        if is_known:
            rpc.finish(status)
        else:
            rpc.fail(grpc.StatusCode.NOT_FOUND, "no such service is known")

    def _watch(self, rpc: Rpc, data: bytes) -> None:
        name = _name(rpc, data)
        if name is None:
            return
        with self._lock:
            if self._is_closed:
                rpc.fail(grpc.StatusCode.UNAVAILABLE, "the server stops")
            elif len(self._watching) >= _MAX_WATCHING:
                message = f"{_MAX_WATCHING} clients watch already: use Check"
                rpc.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            else:
                self._watching[rpc] = name
                rpc.send(self._status(name))
        rpc.when_gone(lambda: self._forget(rpc))

    def _forget(self, rpc: Rpc) -> None:
        with self._lock:
            self._watching.pop(rpc, None)


def _name(rpc: Rpc, data: bytes) -> str | None:
    """The service that is asked for; None where the call was answered, because it is none."""
    try:
        name = health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        name = None
    if name is None or len(name) > _MAX_NAME:
        message = f"expected a HealthCheckRequest with at most {_MAX_NAME} characters"
        rpc.fail(grpc.StatusCode.INVALID_ARGUMENT, message)
        return None
    return name
