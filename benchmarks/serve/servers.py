"""Servers as processes, and what clients see of them."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import steps
from tfrs_mmse import cli

_READY = re.compile(r"^serving .*version \d+ on ")


class Server:
    """A server that answers.

    Attributes:
        port: On 127.0.0.1.
        counts: How many requests ended with which status code, once it has stopped; empty if it does not count.
    """

    def __init__(self, port: int) -> None:
        self.port, self.counts = port, dict[str, int]()


@contextlib.contextmanager
def ours(version_dir: Path, *flags: object) -> Iterator[Server]:
    """`serving.server` with a version's base path."""
    args = ["--model_base_path", version_dir.parent, "--model_name", "shop"]
    args += ["--host", "127.0.0.1", *flags]
    with _start("serving.server", args) as server:
        yield server


@contextlib.contextmanager
def thread_pool(version_dir: Path) -> Iterator[Server]:
    """A thread pool around the same SavedModel."""
    args = ["--version-dir", version_dir]
    with _start("benchmarks.serve.thread_pool", args) as server:
        yield server


@contextlib.contextmanager
def _start(module: str, args: list[Any]) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        server = Server(unused.getsockname()[1])
    argv = [sys.executable, "-m", module, *map(str, args), "--port", str(server.port)]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=steps.ROOT,
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if _READY.match(line):
                break
        else:
            raise cli.CommandError(f"{module} does not start: {said[-1].strip()}")
        # Nothing that it says may fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        out = process.stdout.read()
        process.wait(timeout=60)
        server.counts = json.loads(out)["requests"] if out.strip() else {}
    finally:
        process.kill()
        process.wait()
