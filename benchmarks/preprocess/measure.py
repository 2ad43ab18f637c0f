"""One program in processes of its own: how long it takes, and the most memory that each of them held."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfrs_mmse.cli import CommandError

ROOT = Path(__file__).resolve().parents[2]  # where `python -m` finds the packages
_SECONDS = 0.1  # between two looks at the processes
_WORKER = (
    b"beam.worker"  # in the command line of every worker process (`beam/workers.py`)
)


class Cost(NamedTuple):
    """What a program took.

    Attributes:
        seconds: By the clock on the wall, from its start to its end: the interpreter's, TensorFlow's and the workers'
            starts are all in it.
        cpu_seconds: Of all its processes together.
        driver_mb: The most memory that the program's own process ever held, in 10**6 bytes.
        worker_mb: The most that the largest of its workers ever held; 0 without workers.
    """

    seconds: float
    cpu_seconds: float
    driver_mb: int
    worker_mb: int


def run(module: str, *args: object) -> tuple[Cost, Any]:
    """Runs `python -m module` and gives what it took, and its JSON document.

    Raises:
        CommandError: its exit status is not 0.
    """
    argv = [sys.executable, "-m", module, *map(str, args)]
    with (
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
    ):
        started = time.perf_counter()
        # A session of its own marks whatever processes it starts.
        process = subprocess.Popen(
            argv, stdout=stdout, stderr=stderr, cwd=ROOT, start_new_session=True
        )
        peaks = _Peaks(process.pid)
        watcher = threading.Thread(target=peaks.watch, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        peaks.stop()
        watcher.join()
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise CommandError(
                f"{' '.join(argv)} ended with exit status {process.returncode}: {stderr.read()[-2000:]}"
            )
        cost = Cost(
            round(seconds, 2),
            round(usage.ru_utime + usage.ru_stime, 2),
            round(peaks.driver / 1e6),
            round(max(peaks.workers.values(), default=0) / 1e6),
        )
        return cost, json.load(stdout)


class _Peaks:
    """The peaks of memory of a process and of the workers that it started, in bytes."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._stopped = threading.Event()
        self.driver = 0
        self.workers: dict[int, int] = {}

    def stop(self) -> None:
        self._stopped.set()

    def watch(self) -> None:
        while not self._stopped.wait(_SECONDS):
            for pid in _family(self._root):
                # The process may have ended since.
                with contextlib.suppress(OSError, ValueError):
                    self._look(pid)

    def _look(self, pid: int) -> None:
        # The kernel keeps the highest; a look now and then misses only what a process does just before its end.
        peak = _peak_memory(pid)
        if pid == self._root:
            self.driver = max(self.driver, peak)
        elif _WORKER in _arguments(pid):
            self.workers[pid] = max(self.workers.get(pid, 0), peak)


def _family(root: int) -> Iterator[int]:
    """A process and all that it started; worker processes are in sessions of their own."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                # After the name in brackets: state, parent.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                parents[int(path.name)] = int(fields[1])
    for process in parents:
        ancestor = process
        while ancestor not in (root, 0):
            ancestor = parents.get(ancestor, 0)
        if ancestor == root:
            yield process


def _arguments(pid: int) -> Sequence[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise ValueError("a process that has ended has no memory")
