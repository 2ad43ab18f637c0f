"""The gRPC server: TensorFlow Serving's services and the standard health service on one port."""

from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health

from serving.server.event_loop import EventLoop
from serving.server.metrics import Metrics
from serving.server.models import MAX_REQUEST_BYTES, Models
from serving.server.service import MODEL_SERVICE, PREDICTION_SERVICE, Services
from tfrs_mmse.cli import CommandError

# Beyond this, gRPC refuses with RESOURCE_EXHAUSTED before a request is read.
MAX_IN_FLIGHT = 4096
_OPTIONS = [
    # Two servers on one port would share the requests between them.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # Clients that are asked to connect again now and then find the servers that have come since.
    ("grpc.max_connection_age_ms", 10 * 60_000),
    # Connections whose other end has vanished are found, and clients may look for us as well.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]
_PROCESS = ("", PREDICTION_SERVICE, MODEL_SERVICE)


class GrpcServer:
    """A gRPC server that listens.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        loop: EventLoop,
        *,
        host: str,
        port: int,
        credentials: grpc.ServerCredentials | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """Binds and starts.

        Args:
            models: What answers.
            metrics: Where requests are counted.
            loop: Where they are answered; the models' batcher must be used from there alone.
            host: Address to listen on.
            port: Port, or 0 for a free one.
            credentials: For TLS; None: in the clear.
            interceptors: See requests before the services do.

        Raises:
            CommandError: the port is in use or may not be used.
        """
        self._loop = loop
        self._credentials = credentials  # asked again at each connection
        self._health = aio_health.HealthServicer()
        self._known: set[str] = set()
        self.port = loop.run(
            self._start(models, metrics, host, port, credentials, interceptors)
        )

    def set_health(self, serving: Mapping[str, bool]) -> None:
        """Tells the health service which models are served, each under its name.

        The process, under "", is well all the time: a server that lacks a model is kept from requests, not killed.
        """
        gone = dict.fromkeys(self._known - serving.keys(), False)
        self._known = set(serving)
        process = dict.fromkeys(_PROCESS, True)
        self._loop.run(self._set_health({**gone, **serving, **process}))

    def drain(self) -> None:
        """Tells the health service that this server is about to stop, and goes on answering."""
        self._loop.run(self._health.enter_graceful_shutdown())

    def stop(self, grace: float) -> None:
        """Takes no more requests, and waits up to `grace` seconds until the accepted ones are answered."""
        self._loop.run(self._server.stop(grace))

    async def _start(
        self,
        models: Models,
        metrics: Metrics,
        host: str,
        port: int,
        credentials: grpc.ServerCredentials | None,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> int:
        self._server = grpc.aio.server(
            interceptors=interceptors,
            maximum_concurrent_rpcs=MAX_IN_FLIGHT,
            options=_OPTIONS,
        )
        self._server.add_generic_rpc_handlers(Services(models, metrics).handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"{f'[{host}]' if ':' in host else host}:{port}"
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise cannot_listen(
                host, port, "choose another --port (0 picks a free one)"
            )
        await self._server.start()
        return bound

    async def _set_health(self, serving: Mapping[str, bool]) -> None:
        status = health_pb2.HealthCheckResponse
        for name, is_served in serving.items():
            await self._health.set(
                name, status.SERVING if is_served else status.NOT_SERVING
            )


def cannot_listen(host: str, port: int, advice: str) -> CommandError:
    """Why a server does not start."""
    return CommandError(
        f"cannot listen on {host}:{port}: another program uses the port, or it may not be used; {advice}"
    )
