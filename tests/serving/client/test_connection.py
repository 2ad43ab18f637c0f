"""The clients and the command over real sockets, to a small server made of the official stubs."""

import asyncio
import datetime
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import (
    AsyncSearchClient,
    SearchClient,
    SearchError,
    Tls,
)
from serving.client.__main__ import main
from serving.client.connection import Connection
from tfrs_mmse.cli import CommandError


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers each query with an item that is named after it; remembers what came."""

    def __init__(self) -> None:
        self.requests: list[predict_pb2.PredictRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[grpc.StatusCode] = []
        self.together: threading.Barrier | None = None

    def Predict(self, request: Any, context: Any) -> predict_pb2.PredictResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.refusals:
            context.abort(self.refusals.pop(0), "not now")
        if self.together is not None:
            self.together.wait(30)
        queries = tf.make_ndarray(request.inputs["query"])
        outputs = {"item_id": [[b"for " + q] for q in queries]}
        outputs |= {"score": [[1.0]] * len(queries)}
        if request.model_spec.signature_name == "search_filtered":
            outputs |= {"num_matching": tf.constant([7] * len(queries), tf.int64)}
        reply = predict_pb2.PredictResponse(
            outputs={name: tf.make_tensor_proto(v) for name, v in outputs.items()}
        )
        reply.model_spec.version.value = 3
        return reply


class Running(NamedTuple):
    """A server of this file."""

    target: str
    servicer: Servicer


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts servers, with or without credentials, and stops them all."""
    servers = []

    def start(credentials: Any = None, port: int = 0, workers: int = 4) -> Running:
        server = grpc.server(futures.ThreadPoolExecutor(workers))
        servicer = Servicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            servicer, server
        )
        address = f"127.0.0.1:{port}"
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        servers.append(server)
        return Running(f"127.0.0.1:{port}", servicer)

    yield start
    for server in servers:
        server.stop(None).wait()


class Authority:
    """Signs certificates, and keeps everything in PEM files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.file = self._write("ca.pem", self._sign(self.name, self.key, None))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.pem", self._sign(subject, key, hosts))
        key_file = self.directory / f"{name}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def _sign(self, subject: Any, key: Any, hosts: Any) -> x509.Certificate:
        names = [
            x509.IPAddress(ipaddress.ip_address(host))
            if host[0].isdigit()
            else x509.DNSName(host)
            for host in hosts or ()
        ]
        start = datetime.datetime(2020, 1, 1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(datetime.datetime(2120, 1, 1))
            .add_extension(x509.BasicConstraints(hosts is None, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def server_credentials(
    authority: Authority, *hosts: str, mutual: bool = False
) -> grpc.ServerCredentials:
    certificate, key = authority.issue("server", *hosts)
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=authority.file.read_bytes() if mutual else None,
        require_client_auth=mutual,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]


def found(reply: Any) -> list[str]:
    return [hit.item_id for result in reply.results for hit in result.hits]


def test_hundreds_of_searches_share_a_channel_of_asyncio(start: Any) -> None:
    server = start(workers=300)
    server.servicer.together = threading.Barrier(300)  # none ends before all have come

    async def search_all() -> list[list[str]]:
        async with AsyncSearchClient(server.target, "shop", timeout=60) as client:
            searches = [client.search([f"q{n}"], 1) for n in range(300)]
            return [found(reply) for reply in await asyncio.gather(*searches)]

    assert asyncio.run(search_all()) == [[f"for q{n}"] for n in range(300)]


def test_threads_share_a_client(start: Any) -> None:
    server = start(workers=16)
    server.servicer.together = threading.Barrier(16)
    with (
        SearchClient(server.target, "shop", timeout=60) as client,
        futures.ThreadPoolExecutor(16) as threads,
    ):
        replies = list(threads.map(lambda n: client.search([f"q{n}"], 1), range(64)))
    assert [found(reply) for reply in replies] == [[f"for q{n}"] for n in range(64)]


def test_a_cancelled_search_ends_its_call(start: Any) -> None:
    server = start()
    server.servicer.together = threading.Barrier(2)

    async def give_up() -> None:
        async with AsyncSearchClient(server.target, "shop", timeout=60) as client:
            search = asyncio.create_task(client.search(["tea"]))
            while not server.servicer.requests:
                await asyncio.sleep(0.01)
            search.cancel()
            with pytest.raises(asyncio.CancelledError):
                await search

    asyncio.run(give_up())
    server.servicer.together.abort()


def test_a_server_that_comes_late_is_found_by_the_next_attempt(start: Any) -> None:
    port, pauses = free_port(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            start(port=port)
            # Less than gRPC by itself waits after a connection that failed.
            threading.Event().wait(0.65)

    with SearchClient(f"127.0.0.1:{port}", "shop", timeout=60, sleep=sleep) as client:
        assert found(client.search(["tea"], 1)) == ["for tea"]
    assert len(pauses) == 2


def test_all_addresses_of_a_name_get_their_share(start: Any) -> None:
    servers = [start(), start(), start()]
    target = "ipv4:" + ",".join(server.target for server in servers)
    with SearchClient(target, "shop", timeout=60) as client:
        # Until all are connected, those that are get everything.
        for _ in range(1000):
            if all(server.servicer.requests for server in servers):
                break
            client.search(["tea"], 1)
        before = [len(server.servicer.requests) for server in servers]
        for _ in range(30):
            client.search(["tea"], 1)
    after = [len(server.servicer.requests) for server in servers]
    assert [b - a for a, b in zip(before, after, strict=True)] == [10, 10, 10]


def test_an_overloaded_server_is_asked_again(start: Any) -> None:
    server = start()
    server.servicer.refusals = [grpc.StatusCode.RESOURCE_EXHAUSTED]
    with SearchClient(server.target, "shop") as client:
        assert found(client.search(["tea"], 1)) == ["for tea"]
    assert len(server.servicer.requests) == 2


def test_the_deadline_ends_a_search_that_is_not_answered(start: Any) -> None:
    server = start()
    server.servicer.together = threading.Barrier(2)
    with (
        SearchClient(server.target, "shop", timeout=0.2) as client,
        pytest.raises(SearchError, match=r"did not answer within 0\.2 seconds"),
    ):
        client.search(["tea"])
    server.servicer.together.abort()


def test_the_server_proves_who_it_is(start: Any, authority: Authority) -> None:
    server = start(server_credentials(authority, "127.0.0.1"))
    with SearchClient(server.target, "shop", tls=Tls(ca=authority.file)) as client:
        assert found(client.search(["tea"], 1)) == ["for tea"]
    others = Tls()  # well-known authorities do not know ours
    with (
        SearchClient(server.target, "shop", tls=others) as client,
        pytest.raises(SearchError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.search(["tea"], 1)


def test_a_server_may_be_certified_under_another_name(
    start: Any, authority: Authority
) -> None:
    server = start(server_credentials(authority, "search.shop.example"))
    tls = Tls(ca=authority.file, server_name="search.shop.example")
    with SearchClient(server.target, "shop", tls=tls) as client:
        assert found(client.search(["tea"], 1)) == ["for tea"]
    with (
        SearchClient(server.target, "shop", tls=Tls(ca=authority.file)) as client,
        pytest.raises(SearchError, match="no server answers"),
    ):
        client.search(["tea"], 1)


def test_the_client_proves_who_it_is(start: Any, authority: Authority) -> None:
    server = start(server_credentials(authority, "127.0.0.1", mutual=True))
    certificate, key = authority.issue("client")

    async def search(tls: Tls) -> list[str]:
        async with AsyncSearchClient(server.target, "shop", tls=tls) as client:
            return found(await client.search(["tea"], 1))

    mutual = Tls(ca=authority.file, certificate=certificate, key=key)
    assert asyncio.run(search(mutual)) == ["for tea"]
    with pytest.raises(SearchError, match="no server answers"):
        asyncio.run(search(Tls(ca=authority.file)))


def test_certificates_that_cannot_work_are_refused_at_once(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("one")
    _, another_key = authority.issue("another")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(CommandError, match="given together, got only one"):
        Tls(certificate=certificate).credentials()
    with pytest.raises(CommandError, match="must be a certificate and its key"):
        Tls(certificate=certificate, key=another_key).credentials()
    with pytest.raises(CommandError, match=r"empty\.pem holds no certificate in PEM"):
        Tls(ca=tmp_path / "empty.pem").credentials()
    with pytest.raises(CommandError, match="holds no certificate in PEM"):
        Tls(ca=key).credentials()


def test_a_token_is_read_anew_for_each_search(start: Any, tmp_path: Path) -> None:
    server, token = start(), tmp_path / "token"
    with SearchClient(server.target, "shop", token_file=token) as client:
        for value in ("first", "second"):
            token.write_text(f"{value}\n")
            client.search(["tea"], 1)
    sent = [metadata["authorization"] for metadata in server.servicer.metadata]
    assert sent == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("content", ["", "\n", "two tokens", "line\nline", "naïve"])
def test_a_file_without_a_token_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    connection = Connection(target="localhost:1", token_file=tmp_path / "token")
    with pytest.raises(CommandError, match="expected one token of visible ASCII"):
        connection.metadata()


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:8500", True),
        ("127.0.0.1:8500", True),
        ("127.1.2.3:8500", True),
        ("[::1]:8500", True),
        ("dns:///localhost:8500", True),
        ("ipv6:[::1]:8500", True),
        ("unix:/run/search.sock", True),
        ("search:8500", False),
        ("10.0.0.1:8500", False),
        ("localhost.example:8500", False),
        ("ipv4:127.0.0.1:8500,10.0.0.1:8500", False),
        ("dns://10.0.0.1/localhost:8500", False),
    ],
)
def test_a_token_does_not_leave_the_machine_unencrypted(
    target: str, local: bool
) -> None:
    Connection(target=target, tls=Tls(), token_file=Path("token"))
    if local:
        Connection(target=target, token_file=Path("token"))
        return
    with pytest.raises(CommandError, match="a token is sent only over TLS"):
        Connection(target=target, token_file=Path("token"))


def test_the_command_takes_filters_tls_and_a_token(
    start: Any,
    authority: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = start(server_credentials(authority, "127.0.0.1", mutual=True))
    certificate, key = authority.issue("client")
    (tmp_path / "token").write_text("secret")
    flags = ["--target", server.target, "--model", "shop", "--query", "tea", "--json"]
    flags += ["--k", "1", "--filter", "brand=acme", "--filter", "price>=10"]
    flags += ["--tls-ca", str(authority.file), "--tls-cert", str(certificate)]
    flags += ["--tls-key", str(key), "--token-file", str(tmp_path / "token")]
    assert main(flags) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result == {
        "query": "tea",
        "version": 3,
        "num_matching": 7,
        "hits": [{"rank": 1, "score": 1.0, "item_id": "for tea"}],
    }
    [request] = server.servicer.requests
    assert request.model_spec.signature_name == "search_filtered"
    clauses = tf.make_ndarray(request.inputs["filter"]).tolist()
    assert clauses == [[b"brand=acme", b"price>=10"]]
    assert server.servicer.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--token-file", "t"], "a token is sent only over TLS, or to this machine"),
        (["--tls-cert", "c.pem"], "given together, got only one of them"),
        (["--tls-ca", "/no/such.pem"], "No such file or directory"),
        (["--filter", ""], "a filter must be a clause such as brand=acme"),
    ],
)
def test_a_mistake_of_the_command_is_one_sentence(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", "h:1", "--model", "m", "--query", "q", *flags]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
