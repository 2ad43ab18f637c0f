"""Requests to the REST API, well formed and not."""

import http.client
import json
import socket
from typing import Any

SHOP = "/v1/models/shop"
PREDICT = f"{SHOP}:predict"


def send(
    client: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    """Sends bytes as they are and anything else as JSON; gives status and JSON reply."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    client.request(method, path, body)
    reply = client.getresponse()
    assert reply.headers["Content-Type"] == "application/json"
    return reply.status, json.loads(reply.read())


def send_raw(port: int, request: bytes) -> tuple[int, Any]:
    """Sends bytes that may be no request at all, then waits until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        result = reply.status, json.loads(reply.read())
        assert reply.headers["Connection"] == "close"
        assert connection.recv(1) == b""
    return result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]
