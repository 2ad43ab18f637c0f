"""Load from nghttp2's `h2load`: gRPC is HTTP/2, and a client in C leaves the cores to the server."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfrs_mmse import cli

_PATH = "/tensorflow.serving.PredictionService/Predict"
_CONNECTIONS = 4  # at most; more clients are more streams on each
_WARM_UP = 1.0  # seconds, whose requests are not counted


class Load(NamedTuple):
    """How requests went.

    Attributes:
        per_second: Requests answered.
        p50_ms: From sending a request to the end of its answer.
        p99_ms: The same.
        p999_ms: The same.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float

    def to_dict(self) -> dict[str, float]:
        """Rounded, for JSON."""
        return {
            "per_second": round(self.per_second),
            **{name: round(getattr(self, name), 2) for name in self._fields[1:]},
        }


def require() -> None:
    """Refuses to begin without the tool.

    Raises:
        CommandError: it is not installed.
    """
    if shutil.which("h2load") is None:
        raise cli.CommandError(
            "the load comes from h2load, which is not installed: apt install nghttp2-client"
        )


def closed_loop(
    port: int, requests: Sequence[bytes], clients: int, seconds: float
) -> Load:
    """So many clients that ask again as soon as they are answered.

    Args:
        port: On 127.0.0.1.
        requests: Serialised PredictRequests; each is sent again and again for its share of the time.
        clients: How many.
        seconds: In all.
    """
    connections = min(clients, _CONNECTIONS)
    streams = clients // connections
    return _run(port, requests, seconds, ["-c", connections, "-m", streams])


def open_loop(
    port: int,
    requests: Sequence[bytes],
    per_second: float,
    seconds: float,
    *,
    deadline_ms: int | None = None,
) -> Load:
    """Requests that come at a constant rate, however long the answers take; refusals are answers, too.

    Args:
        port: On 127.0.0.1.
        requests: As for `closed_loop`.
        per_second: How many.
        seconds: In all.
        deadline_ms: Of each request, which is what clients tell servers; None: no deadline.
    """
    flags = ["-c", _CONNECTIONS, "-m", 1000]
    flags += ["--rps", f"{per_second / _CONNECTIONS:.2f}"]
    if deadline_ms is not None:
        flags += ["-H", f"grpc-timeout: {deadline_ms}m"]
    return _run(port, requests, seconds, flags)


def _run(
    port: int, requests: Sequence[bytes], seconds: float, flags: Sequence[object]
) -> Load:
    share = seconds / len(requests)
    rows = [_run_one(port, request, share, flags) for request in requests]
    times = np.concatenate(rows)
    quantiles = np.percentile(times, (50, 99, 99.9)) / 1000
    return Load(len(times) / seconds, *quantiles.tolist())


def _run_one(
    port: int, request: bytes, seconds: float, flags: Sequence[object]
) -> np.ndarray:
    """Microseconds of every request."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(b"\0" + struct.pack(">I", len(request)) + request)
        argv = ["h2load", *flags, "-t", 1, "-D", f"{1000 * (seconds + _WARM_UP):.0f}ms"]
        argv += ["-d", body, "--log-file", log]
        argv += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        argv += [f"http://127.0.0.1:{port}{_PATH}"]
        done = subprocess.run(
            [str(word) for word in argv], capture_output=True, text=True
        )
        if done.returncode or not log.exists():
            raise cli.CommandError(f"h2load failed: {done.stderr.strip()[:300]}")
        rows = np.array(
            [line.split() for line in log.read_text().splitlines()], np.int64
        ).reshape(-1, 3)
    if len(rows):
        rows = rows[rows[:, 0] > rows[:, 0].min() + 1e6 * _WARM_UP]
    if not len(rows) or (rows[:, 1] != 200).any():
        raise cli.CommandError("h2load got answers that are not HTTP 200, or none")
    return rows[:, 2]
