"""A gRPC server on gRPC's core library, for calls that are answered later and by other threads.

grpc's own servers for Python are written on the same binding. One keeps a thread for each call, the other one a task of
asyncio, and both accept one call at a time, so that under load calls wait where nobody sees them: docs/architecture.md.
The binding is grpc's own affair: only this module and `rpc` know it, and `setup.py` names the version it was tried
with.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc

from serving.server.rpc import Route, Rpc

# Calls that may come at once and are accepted without waiting for our thread.
_NUM_ACCEPTING = 64
_LOOK_EVERY = 0.01  # seconds between two looks whether nothing waits, each of which lets go of the interpreter's lock
# Seconds after which something else waits than what is known of: so many clients may ask again as soon as they are
# refused that there is never nothing to do, and each waits for a moment only.
_BELIEVED = 1.0
_OPTIONS = (
    # Core would cancel what waits to be accepted beyond a thousand: CANCELLED tells nobody to try again later.
    ("grpc.server.max_pending_requests", 1 << 30),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 30),
)
_LOG = logging.getLogger(__name__)


class RpcServer:
    """Accepts calls and hands them on, in one thread.

    Attributes:
        port: The port it listens on; 0 if it cannot.
    """

    def __init__(
        self,
        address: str,
        route: Route,
        *,
        credentials: grpc.ServerCredentials | None = None,
        options: Sequence[tuple[str, int]] = (),
        max_in_flight: int,
        unlimited: str,
    ) -> None:
        """Binds and starts.

        Args:
            address: HOST:PORT, where 0 is a free port.
            route: See there.
            credentials: For TLS; None: in the clear.
            options: Of gRPC's core.
            max_in_flight: Calls beyond this number are refused with RESOURCE_EXHAUSTED.
            unlimited: But for methods that begin so: probes of a busy server must not fail.
        """
        self._route, self._max_in_flight = route, max_in_flight
        self._unlimited = unlimited
        self._open: set[Rpc] = set()
        self._was_idle = time.monotonic()
        self._lock, self._is_stopping = threading.Lock(), False
        self._has_shut_down = False
        self._stopped = threading.Event()
        self._events = cygrpc.CompletionQueue()
        self._core = cygrpc.Server((*_OPTIONS, *options), False)
        self._core.register_completion_queue(self._events)
        secure = () if credentials is None else (credentials._credentials,)
        self.port: int = self._core.add_http2_port(address.encode(), *secure)
        if not self.port:
            return
        self._core.start()
        for _ in range(_NUM_ACCEPTING):
            self._accept()
        self._thread = threading.Thread(target=self._serve, name="grpc", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Takes no more calls, waits up to `grace` seconds until those accepted are answered, and cancels the rest."""
        with self._lock:
            if not self._is_stopping:
                self._is_stopping = True
                self._core.shutdown(self._events, self._shut_down)
        if not self._stopped.wait(grace):
            self._core.cancel_all_calls()
        self._thread.join()
        self._core.destroy()  # not by the thread: we may be cancelling calls

    def _accept(self) -> None:
        with self._lock:
            if not self._is_stopping:
                self._core.request_call(self._events, self._events, self._accepted)

    def _serve(self) -> None:
        while not (self._has_shut_down and not self._open):
            event = None  # or its call would be kept until the next one comes
            try:
                event = self._next()
                event.tag(event)
            except Exception:  # a bug of ours is not to end the calls of others
                _LOG.exception("the server goes on after a bug")
        self._stopped.set()

    def _next(self) -> Any:
        """Waits for an event, and notes if there was none: what comes later has waited no longer than since then."""
        was_just_idle = time.monotonic() - self._was_idle < _LOOK_EVERY
        event = self._events.poll(time.time() + _LOOK_EVERY if was_just_idle else 0)
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            event = self._events.poll()
            self._was_idle = time.monotonic()
        return event

    def _accepted(self, event: Any) -> None:
        self._accept()
        if not event.success:  # the server stops
            return
        now = time.monotonic()
        waited = max(0.0, now - self._was_idle - _LOOK_EVERY)
        rpc = Rpc(event, waited, self._open.discard)
        if rpc.waited > _BELIEVED:
            self._was_idle = now
        self._open.add(rpc)
        is_limited = not rpc.method.startswith(self._unlimited)
        if is_limited and len(self._open) > self._max_in_flight:
            rpc.fail(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server is busy with {self._max_in_flight} requests: ask again later",
            )
        else:
            rpc.accept(self._route)

    def _shut_down(self, event: Any) -> None:
        self._has_shut_down = True
