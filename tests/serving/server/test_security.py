"""Who may ask, and what others on the network may read."""

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
)

from serving.server.model_config import ModelConfig
from serving.server.rest import RestServer
from serving.server.tls import TlsFile, read_tls
from serving.server.tokens import Tokens
from tests.serving.serving_here import Served, SlowServable, serve_here
from tfrs_mmse.cli import CommandError

TOKEN, NEXT_TOKEN = "a-token-of-some-length", "the-token-after-that"


def quoted(pem: bytes) -> str:
    return '"' + text_format.text_encoding.CEscape(pem, as_utf8=False) + '"'


class Authority:
    """Signs a server's and a client's certificates."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.root = self.ca.cert_pem.bytes()
        self.server = self.ca.issue_cert("127.0.0.1", "localhost")
        self.client = self.ca.issue_cert("shop-frontend")

    def config(self, directory: Path, *, mutual: bool) -> Path:
        """Writes an SSLConfig."""
        path = directory / "ssl.config"
        fields = {
            "server_key": quoted(self.server.private_key_pem.bytes()),
            "server_cert": quoted(self.server.cert_chain_pems[0].bytes()),
        }
        if mutual:
            fields |= {"custom_ca": quoted(self.root), "client_verify": "true"}
        path.write_text("".join(f"{name}: {v}\n" for name, v in fields.items()))
        return path


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n{NEXT_TOKEN}\n")
    return path


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    (tmp_path / "models/1").mkdir(parents=True)
    return ModelConfig("shop", tmp_path / "models")


def fake(_: Path) -> Any:
    return SlowServable()


def status(channel: grpc.Channel, *metadata: tuple[str, str]) -> grpc.StatusCode:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "shop"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    return stub.GetModelStatus.with_call(request, timeout=20, metadata=metadata)[
        1
    ].code()


@pytest.fixture
def guarded(config: ModelConfig, token_file: Path) -> Iterator[Served]:
    with serve_here(config, load=fake, tokens=Tokens(token_file)) as served:
        yield served


@pytest.mark.parametrize("token", [TOKEN, NEXT_TOKEN])
def test_each_token_of_the_file_opens_the_door(guarded: Served, token: str) -> None:
    with grpc.insecure_channel(guarded.target) as channel:
        assert (
            status(channel, ("authorization", f"Bearer {token}")) is grpc.StatusCode.OK
        )


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", TOKEN)],
        [("token", f"Bearer {TOKEN}")],
    ],
)
def test_without_a_token_nothing_is_told(
    guarded: Served, metadata: list[tuple[str, str]]
) -> None:
    with (
        grpc.insecure_channel(guarded.target) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        status(channel, *metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (
        caught.value.details() == "send a valid token as `Authorization: Bearer TOKEN`"
    )


def test_probes_need_no_token(guarded: Served) -> None:
    with grpc.insecure_channel(guarded.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service="shop"), timeout=20)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "path", ["/v1/models/shop", "/monitoring/prometheus/metrics", "/x"]
)
def test_rest_wants_the_token_too(
    config: ModelConfig, token_file: Path, path: str
) -> None:
    with serve_here(config, load=fake) as served:
        rest = RestServer(
            *(served.models, served.metrics),
            host="127.0.0.1",
            port=0,
            tokens=Tokens(token_file),
        )
        client = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=20)
        client.request("GET", path)
        reply = client.getresponse()
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert json.loads(reply.read()) == {"error": Tokens.REFUSAL}
        client.request("GET", path, headers={"Authorization": f"bearer {TOKEN}"})
        assert client.getresponse().status == (404 if path == "/x" else 200)
        client.close()
        rest.stop(grace=1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(FileNotFoundError\)"),
        ("", "must hold tokens of at least 16 characters"),
        ("short\n", "must hold tokens of at least 16 characters"),
    ],
)
def test_a_token_file_that_protects_nothing_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CommandError, match=message):
        Tokens(path)


def test_grpc_is_encrypted_and_the_client_sees_who_answers(
    authority: Authority, config: ModelConfig, tmp_path: Path
) -> None:
    tls = TlsFile(authority.config(tmp_path, mutual=False))
    with serve_here(config, load=fake, credentials=tls.grpc_credentials()) as served:
        trusting = grpc.ssl_channel_credentials(authority.root)
        with grpc.secure_channel(served.target, trusting) as channel:
            assert status(channel) is grpc.StatusCode.OK
        stranger = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())
        for channel in (
            grpc.secure_channel(served.target, stranger),
            grpc.insecure_channel(served.target),
        ):
            with channel, pytest.raises(grpc.RpcError) as caught:
                status(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_mutual_tls_only_known_clients_are_answered(
    authority: Authority, config: ModelConfig, tmp_path: Path
) -> None:
    tls = TlsFile(authority.config(tmp_path, mutual=True))
    with serve_here(config, load=fake, credentials=tls.grpc_credentials()) as served:
        known = grpc.ssl_channel_credentials(
            authority.root,
            authority.client.private_key_pem.bytes(),
            authority.client.cert_chain_pems[0].bytes(),
        )
        with grpc.secure_channel(served.target, known) as channel:
            assert status(channel) is grpc.StatusCode.OK
        nameless = grpc.ssl_channel_credentials(authority.root)
        with (
            grpc.secure_channel(served.target, nameless) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            status(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("mutual", [False, True])
def test_rest_speaks_https(
    authority: Authority, config: ModelConfig, tmp_path: Path, mutual: bool
) -> None:
    tls = TlsFile(authority.config(tmp_path, mutual=mutual))
    context = ssl.create_default_context()
    authority.ca.configure_trust(context)
    with serve_here(config, load=fake) as served:
        rest = RestServer(
            *(served.models, served.metrics),
            host="127.0.0.1",
            port=0,
            tls=tls.ssl_context,
        )
        nameless = http.client.HTTPSConnection(
            "127.0.0.1", rest.port, timeout=20, context=context
        )
        if mutual:
            with pytest.raises((OSError, http.client.HTTPException)):
                nameless.request("GET", "/v1/models/shop")
                nameless.getresponse()
            authority.client.configure_cert(context)
        client = http.client.HTTPSConnection(
            "127.0.0.1", rest.port, timeout=20, context=context
        )
        for _ in range(2):
            client.request("GET", "/v1/models/shop")
            reply = client.getresponse()
            assert (reply.status, b"AVAILABLE" in reply.read()) == (200, True)
        plain = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=20)
        with pytest.raises((OSError, http.client.HTTPException)):
            plain.request("GET", "/v1/models/shop")
            plain.getresponse()
        for connection in (client, nameless, plain):
            connection.close()
        rest.stop(grace=1.0)


def test_a_renewed_certificate_is_shown_to_the_next_connection(
    authority: Authority, config: ModelConfig, tmp_path: Path
) -> None:
    tls = TlsFile(authority.config(tmp_path, mutual=False), seconds=0.01)
    with serve_here(config, load=fake, credentials=tls.grpc_credentials()) as served:
        rest = RestServer(
            *(served.models, served.metrics),
            host="127.0.0.1",
            port=0,
            tls=tls.ssl_context,
        )

        def ask(authority: Authority) -> None:
            trusting = grpc.ssl_channel_credentials(authority.root)
            with grpc.secure_channel(served.target, trusting) as channel:
                assert status(channel) is grpc.StatusCode.OK
            context = ssl.create_default_context()
            authority.ca.configure_trust(context)
            client = http.client.HTTPSConnection(
                "127.0.0.1", rest.port, timeout=20, context=context
            )
            client.request("GET", "/v1/models/shop")
            assert client.getresponse().status == 200
            client.close()

        trusting = grpc.ssl_channel_credentials(authority.root)
        with grpc.secure_channel(served.target, trusting) as old:
            assert status(old) is grpc.StatusCode.OK
            ask(authority)
            renewed = Authority()
            renewed.config(tmp_path, mutual=False)
            time.sleep(0.02)
            ask(renewed)
            with pytest.raises((grpc.RpcError, AssertionError)):
                ask(authority)
            # A file that was cut short changes nothing.
            (tmp_path / "ssl.config").write_text("server_key: 'x'")
            time.sleep(0.02)
            ask(renewed)
            assert status(old) is grpc.StatusCode.OK
        rest.stop(grace=1.0)


def test_clients_need_certificates_or_not_as_when_the_server_started(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = TlsFile(authority.config(tmp_path, mutual=True), seconds=0.01)
    before = tls.ssl_context()
    authority.config(tmp_path, mutual=False)
    time.sleep(0.02)
    assert tls.ssl_context() is before
    assert "client_verify was true when the server started" in capsys.readouterr().err


def test_a_token_that_was_taken_away_opens_nothing(token_file: Path) -> None:
    tokens = Tokens(token_file, seconds=0.01)
    assert tokens.accept(f"Bearer {TOKEN}")
    token_file.write_text(f"{NEXT_TOKEN}\n")
    time.sleep(0.02)
    assert not tokens.accept(f"Bearer {TOKEN}")
    assert tokens.accept(f"Bearer {NEXT_TOKEN}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_key: 'x'", "must hold server_key and server_cert"),
        ("what: 1", "is no SSLConfig in protobuf's text format"),
        (
            "server_key: 'x' server_cert: 'y'",
            "key, certificate and custom_ca must be PEM and fit together",
        ),
        (
            "server_key: 'x' server_cert: 'y' client_verify: true",
            "asks for client_verify, so it must hold custom_ca",
        ),
    ],
)
def test_a_config_that_protects_nothing_is_one_sentence(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "ssl.config"
    path.write_text(text)
    with pytest.raises(CommandError) as caught:
        read_tls(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    other = authority.ca.issue_cert("127.0.0.1")
    path = tmp_path / "ssl.config"
    path.write_text(
        f"server_key: {quoted(other.private_key_pem.bytes())}\n"
        f"server_cert: {quoted(authority.server.cert_chain_pems[0].bytes())}\n"
    )
    with pytest.raises(CommandError, match="fit together"):
        read_tls(path)
