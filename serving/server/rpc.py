"""One call of a gRPC client, on gRPC's core library."""

import functools
import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

import grpc
from grpc._cython import cygrpc

from serving.server.errors import internal

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_AUTHORIZATION = "authorization"
_NO_METADATA = ()
_NO_FLAGS = 0


class Rpc:
    """A call: what is asked, and the way to answer it.

    It may be answered from any thread. Only the first answer counts, and none is sent once the client has gone.

    Attributes:
        method: `/package.Service/Method`.
        authorization: The value of that header, or "".
        waited: Seconds for which it waited to be accepted, at the most.
        is_over: Whether it was answered, or the client has gone.
    """

    def __init__(
        self, event: Any, waited: float, ended: Callable[["Rpc"], None]
    ) -> None:
        """Takes over a call.

        Args:
            event: The `RequestCallEvent` that it came with.
            waited: See there.
            ended: Called by the server's thread once nothing is left of the call.
        """
        self.waited = waited
        self.method: str = event.call_details.method.decode(errors="replace")
        self.authorization = ""
        for name, value in event.invocation_metadata:
            if name == _AUTHORIZATION:
                self.authorization = value
        self._deadline: float = event.call_details.deadline
        self._call, self._ended = event.call, ended
        self._lock = Lock()
        self.is_over = self._is_received = self._is_gone = False
        self._when_gone: Callable[[], object] | None = None
        self._unsent: bytes | None = None
        self._is_sending = self._has_headers = False

    @property
    def time_remaining(self) -> float:
        """Seconds until the client gives up; very many where it named no deadline."""
        return self._deadline - time.time()

    def accept(self, route: "Route") -> None:
        """Has the server's thread call the handler with the request, once it has come.

        Args:
            route: Gives the handler; None if it has answered already.
        """
        if handler := self._guarded(route, self):
            self._is_received = True
            self._start(self._closed, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
            received = functools.partial(self._received, handler)
            self._start(received, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    def finish(self, reply: bytes) -> None:
        """Answers with one message."""
        message = cygrpc.SendMessageOperation(reply, _NO_FLAGS)
        self._end(grpc.StatusCode.OK, "", message)

    def fail(self, code: grpc.StatusCode, message: str) -> None:
        """Answers with a status, or ends a stream."""
        self._end(code, message)

    def send(self, message: bytes) -> None:
        """Sends a message of a stream, in place of an older one that the client was too slow for."""
        with self._lock:
            self._unsent = message
            self._send_next()

    def when_gone(self, callback: Callable[[], object]) -> None:
        """Has `callback` called if the client goes away before it is answered, or has gone already."""
        with self._lock:
            is_gone = self._is_gone
            if not self.is_over:
                self._when_gone = callback
        if is_gone:
            callback()

    def _received(self, handler: "Handler", event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is not None:
            self._guarded(handler, self, message)
        else:  # or too large, which core has answered by itself
            self.fail(grpc.StatusCode.UNIMPLEMENTED, "a call has one message")

    def _guarded(self, function: Callable[..., _Result], *args: Any) -> _Result | None:
        """What it returns; or, if it has a bug, None, and the client is told that there is one."""
        try:
            return function(*args)
        except Exception:
            _LOG.exception("%s failed", self.method)
            error = internal()
            self.fail(error.code, error.message)
            return None

    def _end(
        self, code: grpc.StatusCode, message: str, *operations: cygrpc.Operation
    ) -> None:
        status = cygrpc.SendStatusFromServerOperation(
            _NO_METADATA, code.value[0], message.encode(), _NO_FLAGS
        )
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            self._when_gone = None  # which refers to us, in a circle
            if self._is_received:
                self._start(_nothing, *self._headers(), *operations, status)
            else:  # refused, all at once
                close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
                self._start(self._closed, close, *self._headers(), status)

    def _send_next(self) -> None:
        """With the lock held: core takes one message at a time."""
        if self.is_over or self._is_sending or self._unsent is None:
            return
        message = cygrpc.SendMessageOperation(self._unsent, _NO_FLAGS)
        self._is_sending, self._unsent = True, None
        self._start(self._sent, *self._headers(), message)

    def _sent(self, event: Any) -> None:
        with self._lock:
            self._is_sending = False
            self._send_next()

    def _headers(self) -> list[cygrpc.Operation]:
        """What must go before the first message or status."""
        if self._has_headers:
            return []
        self._has_headers = True
        return [cygrpc.SendInitialMetadataOperation(_NO_METADATA, _NO_FLAGS)]

    def _closed(self, event: Any) -> None:
        with self._lock:
            self._is_gone, self.is_over = not self.is_over, True
            callback, self._when_gone = self._when_gone, None
        try:
            if callback:
                callback()
        finally:
            self._ended(self)

    def _start(
        self, then: Callable[[Any], None], *operations: cygrpc.Operation
    ) -> None:
        """Core does these by itself; the server's thread calls `then` afterwards."""
        self._call.start_server_batch(operations, then)


Handler = Callable[[Rpc, bytes], None]
"""Takes a call and its request; answers, now or later. Must not wait: one thread serves all calls."""

Route = Callable[[Rpc], Handler | None]
"""Gives the handler for a call before its request is read, or answers it and gives None."""


def _nothing(event: Any) -> None:
    """What is left to do when an answer was sent."""
