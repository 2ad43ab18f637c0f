"""A REST server over a small shop, and a client of it."""

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from serving.server.rest import RestServer


@pytest.fixture(scope="module")
def port(served: Any) -> Iterator[int]:
    server = RestServer(served.models, served.metrics, host="127.0.0.1", port=0)
    yield server.port
    server.stop(grace=1.0)


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    yield connection
    connection.close()
