"""The gRPC server: TensorFlow Serving's services and the standard health service on one port."""

from collections.abc import Mapping

import grpc

from serving.server.health import PATH, Health
from serving.server.metrics import Metrics
from serving.server.models import MAX_REQUEST_BYTES, Models
from serving.server.rpc import Handler, Rpc
from serving.server.rpc_server import RpcServer
from serving.server.service import MODEL_SERVICE, PREDICTION_SERVICE, Services
from serving.server.tokens import Tokens
from tfrs_mmse.cli import CommandError

# Beyond this, a call is refused with RESOURCE_EXHAUSTED before its request is read.
MAX_IN_FLIGHT = 4096
_OPTIONS = [
    # Two servers on one port would share the requests between them.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # One client alone cannot take all that may be in flight.
    ("grpc.max_concurrent_streams", MAX_IN_FLIGHT // 4),
    # Clients that are asked to connect again now and then find the servers that have come since.
    ("grpc.max_connection_age_ms", 10 * 60_000),
    # Connections whose other end has vanished are found, and clients may look for us as well.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]


class GrpcServer:
    """A gRPC server that listens.

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
        credentials: grpc.ServerCredentials | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """Binds and starts.

        Args:
            models: What answers.
            metrics: Where requests are counted.
            host: Address to listen on.
            port: Port, or 0 for a free one.
            credentials: For TLS, asked again at each connection; None: in the clear.
            tokens: One of which a call must bring, but for the health service, since probes cannot; None: none.

        Raises:
            CommandError: the port is in use or may not be used.
        """
        self._tokens = tokens
        self._health = Health((PREDICTION_SERVICE, MODEL_SERVICE))
        self._services = Services(models, metrics)
        self._handlers = {**self._services.handlers, **self._health.handlers}
        self._server = RpcServer(
            f"{f'[{host}]' if ':' in host else host}:{port}",
            self._route,
            credentials=credentials,
            options=_OPTIONS,
            max_in_flight=MAX_IN_FLIGHT,
            unlimited=PATH,
        )
        self.port = self._server.port
        if not self.port:
            raise cannot_listen(
                host, port, "choose another --port (0 picks a free one)"
            )

    def set_health(self, serving: Mapping[str, bool]) -> None:
        """Tells the health service which models are served, each under its name."""
        self._health.set(serving)

    def drain(self) -> None:
        """Tells the health service that this server is about to stop, and goes on answering."""
        self._health.drain()

    def stop(self, grace: float) -> None:
        """Takes no more requests, and waits up to `grace` seconds until the accepted ones are answered."""
        self._health.close()
        self._server.stop(grace)

    def _route(self, rpc: Rpc) -> Handler | None:
        tokens = None if rpc.method.startswith(PATH) else self._tokens
        if tokens and not tokens.accept(rpc.authorization):
            rpc.fail(grpc.StatusCode.UNAUTHENTICATED, tokens.REFUSAL)
            return None
        handler = self._handlers.get(rpc.method)
        if handler is None:
            rpc.fail(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
            return None
        return handler if self._services.admit(rpc) else None


def cannot_listen(host: str, port: int, advice: str) -> CommandError:
    """Why a server does not start."""
    return CommandError(
        f"cannot listen on {host}:{port}: another program uses the port, or it may not be used; {advice}"
    )
