"""A server at full load while versions change, clients misbehave and directories disappear; everything is counted.

    python -m benchmarks.soak            # a quarter of an hour
    python -m benchmarks.soak --quick    # some minutes
    python -m benchmarks.soak --items 60000 --index scann    # a catalogue for which ScaNN is the faster index

Makes a small simulated shop and two exports of it that answer differently; published in turn as versions 1, 2,
..., so that the number of the version that answered says which answer is the right one. While clients ask without a
pause and every answer is compared, new versions appear (a swap each), now and then one is broken (cut short, empty),
the whole model directory is moved away and back, and every fault of `faults.py` is tried again and again. The server's
stderr is a full disk (`/dev/full`).

Prints `ratios` (none), `measurements`: answers by what became of them, latency, swaps and faults by kind, the server's
memory after each tenth of the swaps; and the `machine`. A benchmark that ends with a wrong or a failed answer says so
and exits with 1.
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from benchmarks import machine, steps
from benchmarks.soak.faults import Faults
from tfrs_mmse import cli

_WORK = steps.ROOT / "benchmarks/work/soak"
_LIBRARIES = ("grpcio", "tensorflow")
_NUM_QUERIES = 200
_AVAILABLE = 30
_MOST_TOGETHER = 32  # queries in a batch


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Makes the shop, runs, prints."""
    parser = cli.argument_parser("benchmarks.soak", __doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes")
    parser.add_argument(
        "--swaps", type=cli.positive_int, default=50, help="default: %(default)s"
    )
    parser.add_argument(
        "--clients",
        type=cli.positive_int,
        default=16,
        help="that ask without a pause (default: %(default)s)",
    )
    parser.add_argument(
        "--items",
        type=cli.positive_int,
        default=2000,
        help="of the shop (default: %(default)s)",
    )
    parser.add_argument(
        "--index",
        choices=("exact", "scann"),
        default="exact",
        help="of the exports (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    pause = 1.0 if args.quick else 15.0
    described = machine.describe(_LIBRARIES)
    work = _WORK / f"{args.items}-{args.index}"
    exports = _make_exports(work, args.items, args.index)
    expected = _expected(work, exports)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), exports, expected, args.clients)
        measured = soak.run(args.swaps, pause)
    cli.print_result({"ratios": {}, "measurements": measured, "machine": described})
    bad = {k: n for k, n in measured["answers"].items() if k != "OK"}
    if bad or measured["swaps"] < args.swaps:
        raise cli.CommandError(
            f"expected every request to be answered rightly, but there were {bad}"
        )


class Soak:
    """One run against one server."""

    def __init__(
        self,
        folder: Path,
        exports: list[Path],
        expected: dict[str, Any],
        num_clients: int,
    ) -> None:
        self._base, self._folder = folder / "models", folder
        self._exports, self._num_clients = exports, num_clients
        (folder / "expected.json").write_text(json.dumps(expected))
        self._base.mkdir()
        self._port, self._rest_port = _free_port(), _free_port()
        self._stop = threading.Event()
        self._tried: dict[str, int] = {}

    def run(self, num_swaps: int, pause: float) -> dict[str, Any]:
        """Swaps versions under load.

        Args:
            num_swaps: How often.
            pause: Seconds between two.
        """
        self._publish(1)
        server = self._start_server()
        try:
            self._wait_for(1)
            ends_after = num_swaps * (pause + 30)
            load = self._start_load(ends_after)
            faults = threading.Thread(target=self._try_faults)
            faults.start()
            memory, swaps = [_memory(server.pid)], 0
            for version in range(2, num_swaps + 2):
                self._disturb(version)
                self._publish(version)
                self._wait_for(version)
                swaps += 1
                if swaps % max(1, num_swaps // 10) == 0:
                    memory.append(_memory(server.pid))
                    cli.say(f"{swaps} swaps, {memory[-1] / 1e6:.0f} MB")
                shutil.rmtree(self._base / str(version - 1), ignore_errors=True)
                time.sleep(pause)
            load.send_signal(signal.SIGINT)
            out, _ = load.communicate(timeout=60)
            self._stop.set()
            faults.join()
            server.send_signal(signal.SIGTERM)
            counted, _ = server.communicate(timeout=60)
        finally:
            self._stop.set()
            server.kill()
        return {
            **json.loads(out),
            "swaps": swaps,
            "faults": dict(sorted(self._tried.items())),
            "memory_mb": [round(m / 1e6) for m in memory],
            "counted_by_server": json.loads(counted)["requests"],
            "exit_status": server.returncode,
        }

    def _publish(self, version: int) -> None:
        """An odd version is a copy of the first export, an even one of the second; they appear whole."""
        scratch = self._base / f".tmp-{version}"
        shutil.copytree(self._exports[1 - version % 2], scratch)
        scratch.rename(self._base / str(version))

    def _disturb(self, version: int) -> None:
        """Now and then something is wrong on the disk before the next version comes."""
        match version % 5:
            case 1:
                self._count("a version that is cut short")
                broken = self._base / str(version)
                shutil.copytree(self._exports[0], broken)
                (broken / "variables/variables.data-00000-of-00001").write_bytes(b"x")
                time.sleep(1)
                shutil.rmtree(broken)
            case 3:
                self._count("an empty version")
                (self._base / str(version + 1000)).mkdir()
                time.sleep(1)
                (self._base / str(version + 1000)).rmdir()
            case 4:
                self._count("the model directory is gone")
                away = self._folder / "away"
                self._base.rename(away)
                time.sleep(1)
                away.rename(self._base)

    def _try_faults(self) -> None:
        faults = Faults(self._port, self._rest_port)
        for name, fault in itertools.cycle(faults.kinds.items()):
            if self._stop.wait(0.1):
                break
            self._count(name)
            fault()
        faults.close()

    def _count(self, kind: str) -> None:
        self._tried[kind] = self._tried.get(kind, 0) + 1

    def _start_server(self) -> subprocess.Popen[str]:
        flags = ["--model_base_path", self._base, "--model_name", "shop"]
        flags += ["--port", self._port, "--rest_api_port", self._rest_port]
        flags += ["--host", "127.0.0.1", "--file_system_poll_wait_seconds", "0.2"]
        argv = [sys.executable, "-m", "serving.server", *map(str, flags)]
        with open("/dev/full", "w") as full:
            return subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=full, text=True, cwd=steps.ROOT
            )

    def _start_load(self, seconds: float) -> subprocess.Popen[str]:
        flags = ["--target", f"127.0.0.1:{self._port}", "--seconds", seconds]
        flags += ["--expected", self._folder / "expected.json"]
        flags += ["--clients", self._num_clients]
        argv = [sys.executable, "-m", "benchmarks.soak.load", *map(str, flags)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=steps.ROOT)

    def _wait_for(self, version: int) -> None:
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "shop"
        request.model_spec.version.value = version
        end = time.monotonic() + 120
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            while time.monotonic() < end:
                try:
                    reply = stub.GetModelStatus(request, timeout=5, wait_for_ready=True)
                    if reply.model_version_status[0].state == _AVAILABLE:
                        return
                except grpc.RpcError:
                    pass
                time.sleep(0.05)
        raise cli.CommandError(f"version {version} was not served within two minutes")


def _expected(work: Path, exports: list[Path]) -> dict[str, Any]:
    """What each export answers, asked in this process.

    What ScaNN finds at the margin depends on how many queries are searched together: each such answer is right.
    """
    import tensorflow as tf

    from serving.server.servable import Servable

    log = json.loads((work / "queries.json").read_text())
    answers = []
    for export in exports:
        servable = Servable(export)
        right: list[list[list[str]]] = [[] for _ in log]
        for size in range(1, _MOST_TOGETHER + 1):
            for start in range(0, len(log), size):
                query = tf.make_tensor_proto(log[start : start + size])
                ids = servable.predict("", {"query": query})["item_id"]
                for number, row in enumerate(ids.astype(str).tolist(), start):
                    if row not in right[number]:
                        right[number].append(row)
        answers.append(right)
        servable.close()
    return {"queries": log, "odd": answers[0], "even": answers[1]}


def _make_exports(work: Path, num_items: int, index: str) -> list[Path]:
    """Two exports of one shop, from models of different seeds; made once."""
    logs, examples, done = work / "logs", work / "examples", work / "queries.json"
    exports = [work / f"models-{seed}" for seed in (0, 1)]
    if not done.exists():
        shutil.rmtree(work, ignore_errors=True)
        log = work / "log"
        cli.say("making the shop and two models of it, once")
        sizes = ["--requests", 5000, "--items", num_items]
        steps.run("beam.simulate", "--output", logs, *sizes, log=log)
        files = ["--events", f"{logs}/events.*", "--items", f"{logs}/items.*"]
        steps.run("beam.preprocess", *files, "--output", examples, log=log)
        for seed, export in enumerate(exports):
            model = ["--data", examples, "--model-dir", work / f"run-{seed}"]
            settings = ["--set", f"seed={seed}", "--set", "epochs=1"]
            steps.run("tfrs_mmse.train", *model, *settings, log=log)
            flags = ["--output", export, "--index", index, "--k", 10]
            made = steps.run("serving.export", *model, *flags, log=log)
            if made["index"] != index:
                raise cli.CommandError(
                    f"expected {num_items} items to be searched by {index}, the export chose {made['index']}: "
                    "give more --items"
                )
        from tfrs_mmse.corpus import read_queries

        queries = read_queries(examples, "test", _NUM_QUERIES)
        done.write_text(json.dumps(queries))
    return [export / "1" for export in exports]


def _memory(pid: int) -> int:
    """Bytes that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
