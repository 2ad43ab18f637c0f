"""TensorFlow Serving's REST API over HTTP; what it says is in `serving.rest_api`."""

import io
import json
import logging
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tensorflow_serving.apis import model_pb2

from serving.errors import RequestError
from serving.manager import VersionManager
from serving.rest_api import answer
from serving.served_model import (
    MAX_REQUEST_BYTES,
    RequestCounts,
    ServedModel,
    cannot_listen,
)

MAX_CONNECTIONS = 256  # each holds a thread, and at most one request's bytes
# For a client to send a request, to begin the next one, to take the reply, or to read why it was refused.
CLIENT_SECONDS = 10.0
_PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,18})|/labels/([^/:]+))?(/metadata|:predict)?"
)
_LOG = logging.getLogger(__name__)


class RestServer:
    """An HTTP server that listens.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self,
        manager: VersionManager,
        model_name: str,
        counts: RequestCounts,
        *,
        host: str,
        port: int,
        max_workers: int,
    ) -> None:
        """Binds and starts.

        Args:
            manager: Holds the versions.
            model_name: The only model that is served.
            counts: Where requests are counted; those that are refused before they name a model are not.
            host: Address to listen on.
            port: Port, or 0 for a free one.
            max_workers: Requests that are answered at the same time; more of them wait.

        Raises:
            CommandError: the port is in use or may not be used.
        """
        model = ServedModel(manager, model_name, counts)
        try:
            self._listener = _Listener(model, host, port, max_workers)
        except OSError as e:
            raise cannot_listen(
                host, port, "choose another --rest_api_port (0: no REST API)"
            ) from e
        self.port = self._listener.server_address[1]
        threading.Thread(
            target=self._listener.serve_forever, args=(0.1,), name="rest", daemon=True
        ).start()

    def stop(self, grace: float) -> None:
        """Takes no more requests, and waits up to `grace` seconds until the accepted ones are answered."""
        self._listener.drain(grace)


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Hands each connection to a thread, and knows which connections wait for a request."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, model: ServedModel, host: str, port: int, max_workers: int
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.model, self.workers = model, threading.Semaphore(max_workers)
        self.draining = False
        self._changed = threading.Condition()
        self._num_connections = 0
        self._idle: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    @contextmanager
    def idle(self, connection: socket.socket) -> Iterator[None]:
        """Marks a connection whose request may be waited for in vain; what has arrived can still be read."""
        with self._changed:
            self._idle.add(connection)
            if self.draining:
                _shut_down(connection, socket.SHUT_RD)
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
                _shut_down(connection, socket.SHUT_RD)
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


class _Incoming(io.RawIOBase):
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


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # What a line that is no request gets: otherwise it would be a body without a status line.
    default_request_version = "HTTP/1.0"
    server: _Listener
    rfile: io.BufferedReader

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming, 1 << 16)
        self._refused = False

    def handle_one_request(self) -> None:
        self._incoming.allow(CLIENT_SECONDS)
        self.close_connection = True
        with suppress(TimeoutError), self.server.idle(self.connection):
            self.close_connection = not self.rfile.peek(1)
        if not self.close_connection:
            super().handle_one_request()

    def finish(self) -> None:
        if self._refused:
            # Closing before the client has sent everything would destroy the reply on its way.
            _shut_down(self.connection, socket.SHUT_WR)
            self._incoming.allow(CLIENT_SECONDS)
            with suppress(OSError):
                while self.rfile.read1(1 << 16):
                    pass
        super().finish()

    def version_string(self) -> str:
        return "serving.server"

    def log_message(self, format: str, *args: Any) -> None:
        _LOG.debug(format, *args)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Refuses what is no request to the model, and closes the connection, whose next bytes may be anything."""
        self._refused = True
        self.close_connection = True
        self._reply(code, {"error": message or self.responses[code][0]})

    def _answer(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path = self.path.partition("?")[0]
        match = _PATH.fullmatch(path)
        if not match:
            self._reply(
                404,
                {
                    "error": f"unknown path {path}: known are /v1/models/NAME[/versions/V], the same with /metadata, "
                    "and the same with :predict"
                },
            )
            return
        name, version, label, verb = match.groups()
        method = "POST" if verb == ":predict" else "GET"
        if self.command != method:
            message = f"{path} takes {method}, not {self.command}"
            self._reply(405, {"error": message}, allow=method)
            return
        spec = model_pb2.ModelSpec(name=unquote(name))
        if version:
            spec.version.value = int(version)
        elif label:
            spec.version_label = unquote(label)
        model = self.server.model
        try:
            with self.server.workers, model.answering(f"{method} {path}"):
                reply = _dump(answer(model, spec, verb, body))
        except RequestError as e:
            self._reply(e.http_status, {"error": e.message})
        else:
            self._send(200, reply)

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def _read_body(self) -> bytes | None:
        """The body, or None if there is none that can be read, and the client was told."""
        lengths = set(self.headers.get_all("Content-Length", []))
        if "Transfer-Encoding" in self.headers or (
            self.command == "POST" and not lengths
        ):
            self.send_error(411, "send the body with its Content-Length")
            return None
        text = lengths.pop() if len(lengths) == 1 else "0" if not lengths else ""
        if not re.fullmatch("[0-9]{1,18}", text):
            self.send_error(400, "Content-Length must be one whole number of bytes")
            return None
        length = int(text)
        if length > MAX_REQUEST_BYTES:
            self.send_error(
                413,
                f"the body holds {length} bytes, at most {MAX_REQUEST_BYTES} are taken",
            )
            return None
        self._incoming.allow(CLIENT_SECONDS)
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            self.send_error(
                408,
                f"the body of {length} bytes did not come within {CLIENT_SECONDS:g} seconds",
            )
            return None
        if len(body) < length:
            self.send_error(
                400,
                f"the body ends after {len(body)} bytes, but its Content-Length is {length}",
            )
            return None
        return body

    def _reply(self, status: int, reply: dict[str, Any], *, allow: str = "") -> None:
        self._send(status, _dump(reply), allow=allow)

    def _send(self, status: int, body: bytes, *, allow: str = "") -> None:
        self.close_connection |= self.server.draining
        self.connection.settimeout(CLIENT_SECONDS)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if allow:
            self.send_header("Allow", allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _dump(reply: dict[str, Any]) -> bytes:
    # Half a surrogate pair, which only a message can hold, goes back as the escape that it came as.
    return json.dumps(reply, ensure_ascii=False).encode(errors="backslashreplace")


def _full_reply() -> bytes:
    body = _dump({"error": "too many connections are open: try again later"})
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _shut_down(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # the client was faster
        connection.shutdown(how)
