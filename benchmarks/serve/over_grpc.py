"""Our server and a thread pool over gRPC on loopback, with one client and with many."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serve import load, servers
from tfrs_mmse import cli, schema

CLIENTS = (1, 4, 16, 64)
_SHARES = (0.5, 0.8)  # of what many clients get, for the load at a constant rate
_TOO_MANY = 2.0  # times as many, with a deadline for each
_DEADLINE_MS = 300
_NUM_QUERIES = 4  # of the log, each sent again and again for its share of the time


def measure(
    version_dir: Path, queries: Sequence[str], *, seconds: float, rounds: int
) -> dict[str, Any]:
    """Measures one export.

    Args:
        version_dir: The export.
        queries: Of the log.
        seconds: Of each measurement.
        rounds: Ours and theirs in turn, so often; medians are given.

    Returns:
        `in_process_ms`, the median of the same requests without a server; of `ours` and `thread_pool` by number of
        clients; `overhead_ms`, by which ours with one client takes longer; `vs thread pool` with most clients;
        `constant_rate` of ours; `too_many`, what becomes of requests that are more than can be answered.
    """
    chosen = [_request(query) for query in queries[:_NUM_QUERIES]]
    in_process: list[float] = []
    found: dict[str, dict[int, list[load.Load]]] = {"ours": {}, "thread_pool": {}}
    constant: dict[str, Any] = {}
    for round_number in range(rounds):
        in_process.append(_in_process(version_dir, chosen, seconds))
        for name, start in (
            ("thread_pool", servers.thread_pool),
            ("ours", servers.ours),
        ):
            with start(version_dir) as server:
                for clients in CLIENTS:
                    got = load.closed_loop(server.port, chosen, clients, seconds)
                    found[name].setdefault(clients, []).append(got)
                    cli.say(f"{name}, {clients} clients: {got.to_dict()}")
                if name == "ours" and round_number == 0:
                    most = got.per_second
                    constant = {
                        f"{share:.0%} of {most:.0f} a second": load.open_loop(
                            server.port, chosen, share * most, seconds
                        ).to_dict()
                        for share in _SHARES
                    }
            if bad := {k: n for k, n in server.counts.items() if k != "OK"}:
                cli.say(f"{name} also answered {bad}")
    too_many = _overload(version_dir, chosen, _TOO_MANY * most, seconds)
    cli.say(f"too many: {too_many}")
    medians = {
        name: {clients: _median(runs) for clients, runs in by_clients.items()}
        for name, by_clients in found.items()
    }
    ours, theirs = medians["ours"], medians["thread_pool"]
    most = max(CLIENTS)
    return {
        "in_process_ms": round(statistics.median(in_process), 3),
        "overhead_ms": round(ours[1].p50_ms - statistics.median(in_process), 3),
        "vs thread pool": round(ours[most].per_second / theirs[most].per_second, 2),
        **{
            name: {str(c): run.to_dict() for c, run in by_clients.items()}
            for name, by_clients in medians.items()
        },
        "constant_rate": constant,
        "too_many": too_many,
    }


def _overload(
    version_dir: Path, requests: Sequence[bytes], per_second: float, seconds: float
) -> dict[str, Any]:
    """What becomes of more requests than can be answered, by gRPC status, a second."""
    with servers.ours(version_dir) as server:
        start = time.monotonic()
        times = load.open_loop(
            server.port, requests, per_second, seconds, deadline_ms=_DEADLINE_MS
        )
        took = time.monotonic() - start
    return {
        "offered_per_second": round(per_second),
        "deadline_ms": _DEADLINE_MS,
        "per_second": {k: round(n / took) for k, n in server.counts.items()},
        "p50_ms": times.to_dict()["p50_ms"],
        "p99_ms": times.to_dict()["p99_ms"],
    }


def _median(runs: Sequence[load.Load]) -> load.Load:
    return load.Load(*(statistics.median(values) for values in zip(*runs, strict=True)))


def _request(query: str) -> bytes:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    request.inputs[schema.QUERY].CopyFrom(tf.make_tensor_proto([query]))
    return request.SerializeToString()


def _in_process(version_dir: Path, requests: Sequence[bytes], seconds: float) -> float:
    """Milliseconds of a request, called without a server, one after the other; the median."""
    from tensorflow_serving.apis import predict_pb2

    from serving.server.servable import Servable

    servable = Servable(version_dir)
    times = []
    for request in requests:
        inputs = predict_pb2.PredictRequest.FromString(request).inputs
        end = time.perf_counter() + seconds / len(requests)
        while (start := time.perf_counter()) < end:
            servable.predict("", inputs)
            times.append(time.perf_counter() - start)
    servable.close()
    return 1000 * statistics.median(times)
