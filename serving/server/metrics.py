"""What the server counts, in Prometheus's format; where TensorFlow Serving has a metric, under its name and unit."""

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Sequence

import grpc
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

GRPC, REST = "GRPC", "REST"
CONTENT_TYPE = CONTENT_TYPE_LATEST
_REQUEST_COUNT = ":tensorflow:serving:request_count"
_REQUEST_LATENCY = ":tensorflow:serving:request_latency"
_MICROSECONDS = [100 * 1.5**n for n in range(30)]  # to 13 seconds
# What strangers send as a model's name must not become a label, of which each costs memory for good.
_UNKNOWN = "unknown"

disable_created_metrics()


class Metrics:
    """Counters of one server; may be used from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._by_code: Counts[str] = Counts()
        # It only grows; but the library gives counters another name than TensorFlow Serving does.
        self._requests = Gauge(
            _REQUEST_COUNT,
            "Requests by model and gRPC status code",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            _REQUEST_LATENCY,
            "Microseconds from a request's arrival to its answer",
            ["model_name", "API", "entrypoint"],
            buckets=_MICROSECONDS,
            registry=self._registry,
        )
        self._versions = Gauge(
            "tfrs_mmse_version",
            "The newest version of a model that is served",
            ["model_name"],
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "tfrs_mmse_requests_in_flight",
            "Requests that are not answered yet",
            registry=self._registry,
        )

    def set_versions(self, name: str, versions: Sequence[int]) -> None:
        """Notes which versions of a model are served, newest first."""
        with self._lock:
            self._names.add(name)
        if versions:
            self._versions.labels(name).set(versions[0])
        else:
            self._versions.remove(name)

    def begin(
        self, name: str | None, method: str, entrypoint: str
    ) -> Callable[[grpc.StatusCode], None]:
        """Counts and times one request.

        Args:
            name: The model's, as the request gives it; None if it gives none.
            method: Of the API, `Predict` for one.
            entrypoint: GRPC or REST.

        Returns:
            What to call at its end, once, with the status code.
        """
        label = name if name is not None and name in self._names else _UNKNOWN
        self._in_flight.inc()
        start = time.perf_counter()

        def end(code: grpc.StatusCode) -> None:
            self._in_flight.dec()
            seconds = time.perf_counter() - start
            self._requests.labels(label, code.name).inc()
            self._latency.labels(label, method, entrypoint).observe(1e6 * seconds)
            with self._lock:
                self._by_code[code.name] += 1

        return end

    def counts(self) -> dict[str, int]:
        """How many requests ended with which status code, by its name."""
        with self._lock:
            return dict(sorted(self._by_code.items()))

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._registry)
