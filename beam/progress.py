"""One line on a terminal that says how far a local run is; the workers report to it by a datagram socket."""

import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_SOCKET = "TFRS_MMSE_PROGRESS"  # in the environment, which local workers inherit
_SECONDS = 1.0


def report(what: str, number: int) -> None:
    """Says that so many more of something are done; to nobody where nobody listens."""
    if path := os.environ.get(_SOCKET):
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.setblocking(False)
            sender.sendto(f"{what} {number}".encode(), path)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """While it lasts, shows what is reported: numbers and rates, in place on a terminal, else every half minute."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        path = str(Path(folder) / "progress")
        receiver.bind(path)
        receiver.settimeout(_SECONDS)
        line = _Line()
        stop = threading.Event()
        thread = threading.Thread(
            target=_listen, args=(receiver, line, stop), daemon=True
        )
        os.environ[_SOCKET] = path
        thread.start()
        try:
            yield
        finally:
            del os.environ[_SOCKET]
            stop.set()
            thread.join()
            line.show(last=True)


def _listen(receiver: socket.socket, line: "_Line", stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            what, number = receiver.recv(256).decode().split()
            line.add(what, int(number))
        line.show()


class _Line:
    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._every = _SECONDS if self._is_terminal else 30.0
        self._began = self._shown = time.monotonic()
        self._totals: dict[str, int] = {}

    def add(self, what: str, number: int) -> None:
        self._totals[what] = self._totals.get(what, 0) + number

    def show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not self._totals or (not last and now - self._shown < self._every):
            return
        self._shown = now
        seconds = now - self._began
        done = ", ".join(
            f"{number:,} {what}" for what, number in sorted(self._totals.items())
        )
        rate = sum(self._totals.values()) / seconds
        text = f"{seconds:.0f} s: {done} ({rate:,.0f}/s)"
        end = "\n" if last or not self._is_terminal else ""
        sys.stderr.write(f"\r\x1b[K{text}{end}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()
