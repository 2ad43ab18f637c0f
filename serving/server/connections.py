"""Connections of an HTTP server: a thread for each, up to a number, and none waited for in vain."""

import io
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

MAX_CONNECTIONS = 256  # each holds a thread, and at most one request's bytes
_LOG = logging.getLogger(__name__)


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Hands each connection to a thread, and knows which connections wait for a request."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], host: str, port: int
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.draining = False
        self._changed = threading.Condition()
        self._num_connections = 0
        self._idle: set[socket.socket] = set()
        super().__init__((host, port), handler)

    @contextmanager
    def idle(self, connection: socket.socket) -> Iterator[None]:
        """Marks a connection whose request may be waited for in vain; what has arrived can still be read."""
        with self._changed:
            self._idle.add(connection)
            if self.draining:
                shut_down(connection, socket.SHUT_RD)
        try:
            yield
        finally:
            with self._changed:
                self._idle.discard(connection)

    def drain(self, grace: float) -> None:
        self.shutdown()
        self.server_close()
        with self._changed:
            self.draining = True
            for connection in self._idle:
                shut_down(connection, socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._num_connections, grace)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            full = self._num_connections >= MAX_CONNECTIONS
            self._num_connections += not full
        if full:
            with suppress(OSError):
                request.sendall(_full_reply())
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._num_connections -= 1
                self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The usual reason is a client that went away.
        _LOG.debug("a connection broke", exc_info=True)


class Incoming(io.RawIOBase):
    """What a client sends before a deadline, however slowly it sends it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._deadline = connection, 0.0

    def allow(self, seconds: float) -> None:
        """Sets the deadline."""
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _full_reply() -> bytes:
    body = b'{"error": "too many connections are open: try again later"}'
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def shut_down(connection: socket.socket, how: int) -> None:
    """Ends one direction or both of a connection that may have ended already."""
    with suppress(OSError):  # the client was faster
        connection.shutdown(how)
