"""Serves exported models over TensorFlow Serving's gRPC and REST APIs, with `tensorflow_model_server`'s flag names.

    python -m serving.server --model_base_path models/shop --model_name shop --port 8500 --rest_api_port 8501

Answers `PredictionService` (Predict, GetModelMetadata), `ModelService` (GetModelStatus) and the standard gRPC health
service with the newest version under the base path that can be loaded, and looks for newer ones while it serves: the
new version is loaded and warmed before the old one goes, and a broken one, or one for which there is too little memory,
is refused with the reason in `GetModelStatus`. To roll back, remove the newest version's directory.

With --model_config_file it serves several models, several versions of one (`model_version_policy`) and names for
versions (`version_labels`), as TensorFlow Serving does; the file is read again when it changes.

With --rest_api_port the same models answer JSON over HTTP as well, and Prometheus finds metrics:

    curl localhost:8501/v1/models/shop
    curl localhost:8501/v1/models/shop/metadata
    curl localhost:8501/v1/models/shop:predict --data '{"instances": ["red shoe"]}'
    curl localhost:8501/monitoring/prometheus/metrics

As from TensorFlow Serving, a score of minus infinity, which pads a row of too few results, is written -Infinity.

It listens on all interfaces, as TensorFlow Serving does, unless --host says otherwise, in the clear and for anybody,
unless --ssl_config_file and --auth_token_file say otherwise.

Limits: requests of at most 16 MiB and 1,024 rows. A request that would wait for longer than --max_queue_milliseconds,
or than half of what its deadline leaves, gets RESOURCE_EXHAUSTED at once; one whose deadline passes while it waits is
not computed.
A REST client has 10 seconds to send a request, and connections that are idle for longer are closed.
SIGTERM or SIGINT: the health service says NOT_SERVING while requests are answered for --drain_seconds more; then it
takes no more requests, answers the accepted ones for up to 10 seconds, exits with 0 and prints how many requests ended
with which status code.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, serves until a signal, prints what was answered."""
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.model_config_file is None) == (args.model_base_path is None):
        parser.error("give --model_base_path and --model_name, or --model_config_file")
    if (args.model_base_path is None) != (args.model_name is None):
        parser.error("--model_base_path and --model_name belong together")
    stop = threading.Event()

    def request_stop(signal_number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    # gRPC would log a port in use in lines of its own, before our sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    # Imports TensorFlow, which --help need not wait for.
    from serving.server.lifecycle import Options, serve
    from serving.server.model_config import ModelConfig

    base_path = args.model_base_path
    options = Options(
        models=(ModelConfig(args.model_name, base_path),) if base_path else (),
        model_config_file=args.model_config_file,
        host=args.host,
        port=args.port,
        rest_port=args.rest_api_port,
        poll_seconds=args.file_system_poll_wait_seconds,
        config_poll_seconds=args.model_config_file_poll_wait_seconds,
        rest_seconds=args.rest_api_timeout_in_ms / 1000,
        num_batch_threads=args.num_batch_threads,
        max_queue_seconds=args.max_queue_milliseconds / 1000,
        drain_seconds=args.drain_seconds,
        ssl_config_file=args.ssl_config_file,
        auth_token_file=args.auth_token_file,
    )
    cli.print_result({"requests": serve(options, stop)})


def _parser() -> argparse.ArgumentParser:
    parser = cli.argument_parser("serving.server", __doc__)
    add = parser.add_argument
    add(
        "--model_base_path",
        type=Path,
        metavar="DIR",
        help="holds the numeric versions of the only model",
    )
    add("--model_name", metavar="NAME", help="what requests call the only model")
    add(
        "--model_config_file",
        type=Path,
        metavar="FILE",
        help="instead of the two: a ModelServerConfig in protobuf's text format",
    )
    add(
        "--port",
        type=_port,
        default=8500,
        help="gRPC port, 0 for a free one (default: %(default)s)",
    )
    add(
        "--rest_api_port",
        type=_port,
        default=0,
        metavar="PORT",
        help="HTTP port of the REST API, 0 for no REST API (default: %(default)s)",
    )
    add(
        "--host", default="0.0.0.0", help="address to listen on (default: all, 0.0.0.0)"
    )
    add(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two looks for new versions; 0: look once, at the start (default: %(default)s)",
    )
    add(
        "--model_config_file_poll_wait_seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two looks at that file; 0: read it once (default: %(default)s)",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=cli.positive_int,
        default=30_000,
        metavar="MS",
        help="after which a REST request that still waits is not answered (default: %(default)s)",
    )
    add(
        "--num_batch_threads",
        type=cli.positive_int,
        default=max(1, (os.cpu_count() or 1) // 2),
        metavar="N",
        help="batches computed at the same time (default: one for every second processor)",
    )
    add(
        "--max_queue_milliseconds",
        type=cli.positive_int,
        default=500,
        metavar="MS",
        help="a request that would wait longer is refused at once (default: %(default)s)",
    )
    add(
        "--drain_seconds",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="after a signal, to go on while load balancers learn of it (default: %(default)s)",
    )
    add(
        "--ssl_config_file",
        type=Path,
        metavar="FILE",
        help="an SSLConfig in protobuf's text format, for TLS and mutual TLS",
    )
    add(
        "--auth_token_file",
        type=Path,
        metavar="FILE",
        help="bearer tokens, one a line; a request must bring one",
    )
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, got {number}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
