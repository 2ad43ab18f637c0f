"""TensorFlow Serving's REST API over HTTP; what it says is in `serving.server.rest_api`."""

import io
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
from tensorflow_serving.apis import model_pb2

from serving.server.connections import Incoming, Listener, shut_down
from serving.server.errors import RequestError, internal
from serving.server.grpc_server import cannot_listen
from serving.server.metrics import CONTENT_TYPE, REST, Metrics
from serving.server.models import MAX_REQUEST_BYTES, Models
from serving.server.rest_api import answer
from serving.server.tokens import Tokens

# For a client to send a request, to begin the next one, to take the reply, or to read why it was refused.
CLIENT_SECONDS = 10.0
_METRICS = "/monitoring/prometheus/metrics"
_PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,18})|/labels/([^/:]+))?(/metadata|:predict)?"
)
_METHODS = {
    None: "GetModelStatus",
    "/metadata": "GetModelMetadata",
    ":predict": "Predict",
}
_LOG = logging.getLogger(__name__)


class RestServer:
    """An HTTP server that listens.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        *,
        host: str,
        port: int,
        seconds: float = 30.0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """Binds and starts.

        Args:
            models: What answers.
            metrics: Where requests are counted; those that are refused before they name a model are not.
            host: Address to listen on.
            port: Port, or 0 for a free one.
            seconds: After which a prediction that still waits is not made.
            tls: For HTTPS, asked at each connection; None: in the clear.
            tokens: One of which a request must bring; None: none.

        Raises:
            CommandError: the port is in use or may not be used.
        """
        service = _Service(models, metrics, seconds, tls, tokens)
        try:
            self._listener = _RestListener(service, host, port)
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


class _Service(NamedTuple):
    """What every connection needs; see `RestServer`."""

    models: Models
    metrics: Metrics
    seconds: float
    tls: Callable[[], ssl.SSLContext] | None
    tokens: Tokens | None


class _RestListener(Listener):
    def __init__(self, service: _Service, host: str, port: int) -> None:
        self.service = service
        super().__init__(_Handler, host, port)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # What a line that is no request gets: otherwise it would be a body without a status line.
    default_request_version = "HTTP/1.0"
    server: _RestListener
    rfile: io.BufferedReader

    def setup(self) -> None:
        if tls := self.server.service.tls:
            self.request.settimeout(CLIENT_SECONDS)
            self.request = tls().wrap_socket(self.request, server_side=True)
        super().setup()
        self.rfile.close()
        self._incoming = Incoming(self.connection)
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
            shut_down(self.connection, socket.SHUT_WR)
            self._incoming.allow(CLIENT_SECONDS)
            with suppress(OSError):
                while self.rfile.read1(1 << 16):
                    pass
        super().finish()
        self.connection.close()

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
        tokens = self.server.service.tokens
        if tokens and not tokens.accept(self.headers.get("Authorization", "")):
            self._reply(401, {"error": tokens.REFUSAL}, www_authenticate="Bearer")
            return
        if path == _METRICS and self.command == "GET":
            self._send(
                200, self.server.service.metrics.text(), content_type=CONTENT_TYPE
            )
            return
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
        service = self.server.service
        end = service.metrics.begin(spec.name, _METHODS[verb], REST)
        error: RequestError | None = None
        try:
            reply = _dump(
                answer(service.models, spec, verb, body, seconds=service.seconds)
            )
        except RequestError as e:
            error = e
        except Exception:
            _LOG.exception("%s %s failed", method, path)
            error = internal()
        end(error.code if error else grpc.StatusCode.OK)
        if error:
            self._reply(error.http_status, {"error": error.message})
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

    def _reply(self, status: int, reply: dict[str, Any], **headers: str) -> None:
        self._send(status, _dump(reply), **headers)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.close_connection |= self.server.draining
        self.connection.settimeout(CLIENT_SECONDS)
        self.send_response(status)
        for name, value in {"content_type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-").title(), value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _dump(reply: dict[str, Any]) -> bytes:
    # Half a surrogate pair, which only a message can hold, goes back as the escape that it came as.
    return json.dumps(reply, ensure_ascii=False).encode(errors="backslashreplace")
