"""Serves an exported model over TensorFlow Serving's gRPC and REST APIs, with `tensorflow_model_server`'s flag names.

    python -m serving.server --model_base_path models/shop --model_name shop --port 8500 --rest_api_port 8501

Answers `PredictionService.Predict`, `PredictionService.GetModelMetadata` and `ModelService.GetModelStatus` with the
newest version under the base path that can be loaded, and looks for newer ones while it serves: the new version is
loaded and warmed before the old one goes, and a broken one is refused with the reason in `GetModelStatus`. To roll
back, remove the newest version's directory. It listens on all interfaces, as TensorFlow Serving does, unless --host
says otherwise; there is no encryption and no authentication, so keep the ports inside your network.

With --rest_api_port the same model answers JSON over HTTP as well:

    curl localhost:8501/v1/models/shop
    curl localhost:8501/v1/models/shop/metadata
    curl localhost:8501/v1/models/shop:predict --data '{"instances": ["red shoe"]}'

As from TensorFlow Serving, a score of minus infinity, which pads a row of too few results, is written -Infinity.

Limits: requests of at most 16 MiB and 1,024 rows. gRPC requests that wait longer than their deadline are not computed.
A REST client has 10 seconds to send a request, and connections that are idle for longer are closed.
SIGTERM or SIGINT: takes no more requests, answers the accepted ones for up to 10 seconds, exits with 0 and prints
how many requests ended with which status code.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from tfrs_mmse import cli

GRACE_SECONDS = 10.0


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.argument_parser("serving.server", __doc__)
    parser.add_argument(
        "--model_base_path",
        type=Path,
        required=True,
        metavar="DIR",
        help="holds numeric versions",
    )
    parser.add_argument(
        "--model_name",
        required=True,
        metavar="NAME",
        help="what requests call the model",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8500,
        help="gRPC port, 0 for a free one (default: 8500)",
    )
    parser.add_argument(
        "--rest_api_port",
        type=_port,
        default=0,
        metavar="PORT",
        help="HTTP port of the REST API, 0 for no REST API (default: 0)",
    )
    parser.add_argument(
        "--host", default="0.0.0.0", help="address to listen on (default: all, 0.0.0.0)"
    )
    parser.add_argument(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="between two looks for new versions; 0: look once, at the start (default: 1)",
    )
    parser.add_argument(
        "--max_workers",
        type=cli.positive_int,
        default=4 * (os.cpu_count() or 1),
        metavar="N",
        help="requests answered at the same time (default: four for each processor)",
    )
    args = parser.parse_args(argv)

    stop = threading.Event()

    def request_stop(signal_number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    counts = serve(
        args.model_base_path,
        args.model_name,
        host=args.host,
        port=args.port,
        rest_port=args.rest_api_port,
        poll_seconds=args.file_system_poll_wait_seconds,
        max_workers=args.max_workers,
        stop=stop,
    )
    cli.print_result({"requests": counts})


def serve(
    base_path: Path,
    model_name: str,
    *,
    host: str,
    port: int,
    rest_port: int,
    poll_seconds: float,
    max_workers: int,
    stop: threading.Event,
) -> dict[str, int]:
    """Serves until `stop` is set.

    Args:
        base_path: Holds the numeric versions.
        model_name: What requests call the model.
        host: Address to listen on.
        port: gRPC port, or 0 for a free one.
        rest_port: HTTP port, or 0 for no REST API.
        poll_seconds: Between two looks for new versions; not positive: look once.
        max_workers: Requests answered at the same time.
        stop: Set it to stop.

    Returns:
        How many requests ended with which status code.

    Raises:
        CommandError: there is no version that can be loaded, or a port cannot be used.
    """
    # gRPC would log a port in use in lines of its own, before our sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.manager import VersionManager
    from serving.rest import RestServer
    from serving.served_model import RequestCounts
    from serving.service import BoundServer

    manager, counts = VersionManager(base_path, model_name), RequestCounts()
    manager.refresh()
    if manager.version is None:
        raise cli.CommandError(_nothing_to_serve(base_path, manager.states()))
    server = BoundServer(
        manager, model_name, counts, host=host, port=port, max_workers=max_workers
    )
    servers: list[BoundServer | RestServer] = [server]
    if rest_port:
        servers.append(
            RestServer(
                manager,
                model_name,
                counts,
                host=host,
                port=rest_port,
                max_workers=max_workers,
            )
        )
        # Before the line that others wait for.
        cli.say(f"REST API on {host}:{rest_port}")
    served = manager.version
    cli.say(f"serving {model_name} version {served} on {host}:{server.port}")
    while not stop.wait(poll_seconds if poll_seconds > 0 else None):
        manager.refresh()
        if manager.version != served:
            served = manager.version
            cli.say(f"serving {model_name} version {served} on {host}:{server.port}")
    with ThreadPoolExecutor() as together:
        list(together.map(lambda server: server.stop(GRACE_SECONDS), servers))
    manager.close()
    return counts.to_dict()


def _nothing_to_serve(base_path: Path, states: dict) -> str:
    if not states:
        return (
            f"expected numeric version directories in {base_path}, found none: "
            "write one with `python -m serving.export --output` and this directory"
        )
    newest = max(states)
    return f"no version in {base_path} can be served; version {newest}: {states[newest].message}"


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
