"""TLS from TensorFlow Serving's `--ssl_config_file`."""

import os
import ssl
from pathlib import Path
from typing import NamedTuple

import grpc
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

from serving.server.watched_file import WatchedFile
from tfrs_mmse.cli import CommandError

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL


class Tls(NamedTuple):
    """What a server proves itself with, all in PEM.

    Attributes:
        key: Private key.
        certificate: Its certificate and those between it and the authority.
        client_authority: Certificates of the authority that signs clients'; empty: clients need none.
        require_client: Whether a client must bring a certificate.
    """

    key: bytes
    certificate: bytes
    client_authority: bytes
    require_client: bool

    def grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        """For a gRPC port."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)],
            root_certificates=self.client_authority or None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """For sockets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The module reads these two from a file only; one in memory, so that no key comes to lie on a disk.
        with open(os.memfd_create("tls"), "wb") as file:
            file.write(self.certificate + b"\n" + self.key)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        if self.client_authority:
            context.load_verify_locations(cadata=self.client_authority.decode())
        if self.require_client:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class TlsFile:
    """An `--ssl_config_file`, whose certificates may be replaced: the next connection gets the new ones."""

    def __init__(self, path: Path, *, seconds: float = 1.0) -> None:
        """Reads it.

        Args:
            path: See `read_tls`.
            seconds: Between two looks at it.

        Raises:
            CommandError: see `read_tls`.
        """
        self._require_client = read_tls(path).require_client
        self._file = WatchedFile(path, self._read, seconds=seconds)
        self._context = self._file.content, self._file.content.ssl_context()

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC port."""
        return grpc.dynamic_ssl_server_credentials(
            self._file.content.grpc_configuration(),
            lambda: self._file.content.grpc_configuration(),
            require_client_authentication=self._require_client,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """For the next connection of a socket."""
        tls = self._file.content
        if tls is not self._context[0]:
            self._context = tls, tls.ssl_context()
        return self._context[1]

    def _read(self, path: Path) -> Tls:
        tls = read_tls(path)
        if tls.require_client != self._require_client:
            raise CommandError(
                f"client_verify was {str(self._require_client).lower()} when the server started: start it anew"
            )
        return tls


def read_tls(path: Path) -> Tls:
    """Reads an `SSLConfig` in protobuf's text format, which holds keys and certificates themselves, not their paths.

    Raises:
        CommandError: it cannot be read, holds too little, or key and certificate do not fit.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), _ssl_config())
    except (OSError, UnicodeDecodeError) as e:
        raise CommandError(
            f"--ssl_config_file {path} cannot be read ({type(e).__name__}): give a text file"
        ) from None
    except text_format.ParseError as e:
        raise CommandError(
            f"--ssl_config_file {path} is no SSLConfig in protobuf's text format ({e})"
        ) from None
    tls = Tls(
        config.server_key.encode(),
        config.server_cert.encode(),
        config.custom_ca.encode(),
        config.client_verify,
    )
    if not tls.key or not tls.certificate:
        raise CommandError(
            f"--ssl_config_file {path} must hold server_key and server_cert"
        )
    if tls.require_client and not tls.client_authority:
        raise CommandError(
            f"--ssl_config_file {path} asks for client_verify, so it must hold custom_ca"
        )
    try:
        tls.ssl_context()
    except (ssl.SSLError, ValueError) as e:
        raise CommandError(
            f"--ssl_config_file {path}: key, certificate and custom_ca must be PEM and fit together ({e})"
        ) from None
    return tls


def _ssl_config() -> "text_format.Message":
    """An empty `SSLConfig`: its definition is public (tensorflow_serving/config/ssl_config.proto), but not in the pip
    package of the stubs.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="tfrs_mmse/ssl_config.proto", package="tfrs_mmse", syntax="proto3"
    )
    message = file.message_type.add(name="SSLConfig")
    kinds = {
        "server_key": _STRING,
        "server_cert": _STRING,
        "custom_ca": _STRING,
        "client_verify": _BOOL,
    }
    for number, (name, kind) in enumerate(kinds.items(), start=1):
        message.field.add(name=name, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("tfrs_mmse.SSLConfig")
    return message_factory.GetMessageClass(descriptor)()
