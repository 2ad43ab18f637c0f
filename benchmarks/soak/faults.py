"""What clients do wrong and networks do to servers: each does it once, on loopback."""

import http.client
import socket
from collections.abc import Callable
from contextlib import suppress

import grpc

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Faults:
    """Faults against one server.

    Attributes:
        kinds: What to call for each kind, by name.
    """

    def __init__(self, port: int, rest_port: int) -> None:
        self._grpc, self._rest = ("127.0.0.1", port), ("127.0.0.1", rest_port)
        self._open: list[socket.socket] = []
        self.kinds: dict[str, Callable[[], None]] = {
            "bytes that are no request": lambda: self._predict(b"\xff" * 100),
            "a request of 17 MB": lambda: self._predict(b"\0" * (17 << 20)),
            "a request without a model": lambda: self._predict(b""),
            "bytes that are no HTTP/2": lambda: self._send(
                self._grpc, b"\x16\x03" * 50
            ),
            "a connection that stays silent": lambda: self._hold(self._grpc, b""),
            "half an HTTP/2 preface": lambda: self._hold(self._grpc, _PREFACE[:11]),
            "a preface and no more": lambda: self._hold(self._grpc, _PREFACE),
            "a REST connection that stays silent": lambda: self._hold(self._rest, b""),
            "half a REST request": lambda: self._hold(
                self._rest, b"POST /v1/models/shop:predict HTTP/1.1\r\nContent-Le"
            ),
            "a REST body that does not come": lambda: self._hold(
                self._rest,
                b"POST /v1/models/shop:predict HTTP/1.1\r\nContent-Length: 900\r\n\r\n{",
            ),
            "a REST body that is no JSON": self._post_nonsense,
            "a client that goes away": self._go_away,
        }

    def close(self) -> None:
        """Ends the connections that were left open."""
        for connection in self._open:
            connection.close()

    def _predict(self, data: bytes) -> None:
        with (
            grpc.insecure_channel(f"{self._grpc[0]}:{self._grpc[1]}") as channel,
            suppress(grpc.RpcError),
        ):
            channel.unary_unary(_PREDICT)(data, timeout=20)

    def _send(self, address: tuple[str, int], data: bytes) -> None:
        with suppress(OSError), socket.create_connection(address, timeout=20) as s:
            s.sendall(data)

    def _hold(self, address: tuple[str, int], data: bytes) -> None:
        with suppress(OSError):
            connection = socket.create_connection(address, timeout=20)
            connection.sendall(data)
            self._open.append(connection)
        while len(self._open) > 100:
            self._open.pop(0).close()

    def _post_nonsense(self) -> None:
        client = http.client.HTTPConnection(*self._rest, timeout=20)
        with suppress(OSError, http.client.HTTPException):
            client.request("POST", "/v1/models/shop:predict", b'{"instances": [[[')
            client.getresponse().read()
        client.close()

    def _go_away(self) -> None:
        with grpc.insecure_channel(f"{self._grpc[0]}:{self._grpc[1]}") as channel:
            call = channel.unary_unary(_PREDICT).future(
                b"\x0a\x06\x0a\x04shop", timeout=20
            )
            call.cancel()
