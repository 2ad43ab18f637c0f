"""How a server is reached: plain, with TLS, with a certificate of one's own, with a token."""

import dataclasses
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import grpc

from tfrs_mmse.cli import CommandError

Metadata = tuple[tuple[str, str], ...]

_OPTIONS: dict[str, Any] = {
    "grpc.max_receive_message_length": -1,
    # Behind a name with several addresses, such as a headless service's, each answers its share.
    "grpc.lb_policy_name": "round_robin",
    # By itself gRPC waits a second before it connects anew, longer than our attempts take, and later minutes.
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # A connection whose other end is gone is given up after 5 seconds without a sign of life. Asked for only during
    # calls: to idle connections most servers allow it so seldom that they would hang up.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tls:
    """Encryption, and who proves to be who.

    Attributes:
        ca: PEM file of the authorities that may have signed the server's certificate; well-known ones, if None.
        certificate: PEM file of the client's own certificate, where the server wants one (mutual TLS).
        key: PEM file of its private key, without a password.
        server_name: The name in the server's certificate, where that is not the target's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            CommandError: they are not PEM, or certificate and key do not belong together.
            OSError: one cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if (self.certificate is None) != (self.key is None):
            raise CommandError(
                "a client certificate and its key are given together, got only one of them"
            )
        # gRPC would say of a wrong file only that no server answers.
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError:
                raise CommandError(f"{self.ca} holds no certificate in PEM") from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password="")
            except ssl.SSLError:
                raise CommandError(
                    f"{self.certificate} and {self.key} must be a certificate and its key, in PEM without a password"
                ) from None
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca and self.ca.read_bytes(),
            private_key=self.key and self.key.read_bytes(),
            certificate_chain=self.certificate and self.certificate.read_bytes(),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a server is, and what it takes to be let in.

    Attributes:
        target: HOST:PORT, or any other name that gRPC resolves.
        tls: None for a connection that everybody on the way can read.
        token_file: Holds a bearer token, sent with every request. Read anew for each search, for tokens expire and are
            replaced.
    """

    target: str
    tls: Tls | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        """Raises: CommandError: the token would travel unencrypted to another machine."""
        if self.token_file is not None and self.tls is None and not self._is_local():
            raise CommandError(
                f"a token is sent only over TLS, or to this machine itself, and {self.target} is neither: "
                "give the authority of its certificate"
            )

    def open(self, channels: Any) -> Any:
        """A channel to the target; it connects by itself, and again after it was cut.

        Args:
            channels: `grpc` or `grpc.aio`.
        """
        options = dict(_OPTIONS)
        if self.tls is None:
            return channels.insecure_channel(self.target, options=[*options.items()])
        if self.tls.server_name is not None:
            options["grpc.ssl_target_name_override"] = self.tls.server_name
        return channels.secure_channel(
            self.target, self.tls.credentials(), options=[*options.items()]
        )

    def metadata(self) -> Metadata:
        """What is sent beside a request.

        Raises:
            CommandError: the file holds no token.
            OSError: it cannot be read.
        """
        if self.token_file is None:
            return ()
        token = self.token_file.read_bytes().strip()
        if not token or not all(0x21 <= byte <= 0x7E for byte in token):
            raise CommandError(
                f"expected one token of visible ASCII characters in {self.token_file}"
            )
        return (("authorization", f"Bearer {token.decode('ascii')}"),)

    def _is_local(self) -> bool:
        if self.target.startswith(("unix:", "unix-abstract:")):
            return True
        name = self.target
        for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
            name = name.removeprefix(scheme)
        host = name.rpartition(":")[0].strip("[]")
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
