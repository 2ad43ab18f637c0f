"""Asks a server without a pause and checks every answer; a process of its own, used by the soak.

    python -m benchmarks.soak.load --target HOST:PORT --expected FILE --clients 8 --seconds 60   # or until SIGINT

`--expected` is JSON: `queries`, and by `even` and `odd` version numbers the lists of item ids of which each query must
get one. Prints one JSON document: `answers` by what became of them (OK, `wrong`, or the name of a gRPC status code),
examples of the `details` that came with a status, and `latency_ms` by percentile.
"""

import argparse
import asyncio
import collections
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tfrs_mmse import cli

WRONG = "wrong"
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_PERCENTILES = (50, 99, 99.9, 100)


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, asks, prints."""
    parser = cli.argument_parser("benchmarks.soak.load", __doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--clients", type=cli.positive_int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args(argv)
    cli.print_result(asyncio.run(Load(args).run()))


class Load:
    """Clients that each ask as soon as they are answered, over one connection."""

    def __init__(self, args: argparse.Namespace) -> None:
        from tensorflow_serving.apis import predict_pb2

        self._args = args
        self._reply = predict_pb2.PredictResponse
        expected = json.loads(args.expected.read_text())
        self._expected = (expected["even"], expected["odd"])
        self._requests = [
            _request(query).SerializeToString() for query in expected["queries"]
        ]
        self._stop = asyncio.Event()
        self._counts: collections.Counter[str] = collections.Counter()
        self._details: dict[str, str] = {}
        self._seconds: list[float] = []

    async def run(self) -> dict[str, Any]:
        """Asks until the time is over."""
        end = time.monotonic() + self._args.seconds
        async with grpc.aio.insecure_channel(self._args.target) as channel:
            call = channel.unary_unary(_PREDICT)
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._stop.set)
            await asyncio.gather(
                *(self._ask(call, n, end) for n in range(self._args.clients))
            )
        milliseconds = 1000 * np.percentile(self._seconds, _PERCENTILES)
        latency = zip(_PERCENTILES, milliseconds.tolist(), strict=True)
        return {
            "answers": dict(self._counts),
            "details": self._details,
            "latency_ms": {f"p{p:g}": round(ms, 2) for p, ms in latency},
        }

    async def _ask(self, call: Any, client: int, end: float) -> None:
        rng = np.random.default_rng(client)
        while time.monotonic() < end and not self._stop.is_set():
            number = int(rng.integers(len(self._requests)))
            start = time.monotonic()
            try:
                reply = self._reply.FromString(
                    await call(self._requests[number], timeout=20)
                )
            except grpc.RpcError as e:
                self._counts[e.code().name] += 1
                self._details[e.code().name] = e.details() or ""
                continue
            self._seconds.append(time.monotonic() - start)
            wanted = self._expected[reply.model_spec.version.value % 2][number]
            found = [b.decode() for b in reply.outputs["item_id"].string_val]
            self._counts["OK" if found in wanted else WRONG] += 1


def _request(query: str) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    request.inputs["query"].CopyFrom(tf.make_tensor_proto([query]))
    return request


if __name__ == "__main__":
    sys.exit(main())
