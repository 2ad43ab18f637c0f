"""Worker processes of the local runner that end with the run, and a run that ends with them.

By its source, Beam's own handling of them waits for ever for some answers of a worker that died; and it lets a run that
was interrupted go on until its workers have finished what they were asked for.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import grpc
from apache_beam.portability import python_urns
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    GrpcWorkerHandler,
    WorkerHandler,
)
from google.protobuf import text_format

from tfrs_mmse.cli import CommandError

_COMMAND = (sys.executable, "-m", "beam.worker")


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class WorkerProcess(GrpcWorkerHandler):
    """Takes the place of Beam's handler for `--direct_running_mode multi_processing`.

    What a worker prints is kept, and told only if it dies: an error in it comes back as an answer anyway.
    """

    def __init__(self, _: bytes, *args: Any) -> None:
        super().__init__(*args)
        self._is_closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)

    def start_worker(self) -> None:
        address = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        environment = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(address),
            "WORKER_ID": self.worker_id,
            "PIPELINE_OPTIONS": "{}",
        }
        # A session of its own, so that Ctrl-C comes to the command only, which knows what to do.
        with _guard.put_off():  # a process that is not known yet could not be ended
            self._process = subprocess.Popen(
                _COMMAND,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=self._printed,
                stderr=self._printed,
                start_new_session=True,
            )
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        if not self._is_closed:
            _guard.end(self._cause(status))

    def _cause(self, status: int) -> str:
        if status < 0:
            return (
                f"a worker process was killed ({signal.Signals(-status).name}); if nobody did that, the machine ran "
                "out of memory: take more num_shards in --config or fewer --direct_num_workers"
            )
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line), "it printed nothing")
        return f"a worker process ended with status {status}: {last}"

    def close(self) -> None:
        """Ends the process at once: it has answered everything, or nobody wants the answers any more."""
        self._is_closed = True
        if self._process:  # else the run was ended while it was about to start
            self._process.kill()
            self._process.communicate()
        self.control_conn.close()
        self._printed.close()


class _Guard:
    """Lets a thread end the run that goes on in the main thread, in whatever call that waits."""

    def __init__(self) -> None:
        self._cause: str | None = None
        self._is_on = False
        self._is_put_off = False
        self._came: int | None = None  # a signal, meanwhile

    def end(self, cause: str) -> None:
        if self._is_on:
            self._cause = cause
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread only
            return
        previous = {
            number: signal.signal(number, self._raise)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._cause, self._is_on = None, True
        try:
            yield
        finally:
            self._is_on = False
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """What would end the run ends it when this is over."""
        self._is_put_off = True
        try:
            yield
        finally:
            self._is_put_off = False
            came, self._came = self._came, None
            if came is not None:
                signal.pthread_kill(threading.main_thread().ident or 0, came)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self._is_on:
            return  # the run is ending already
        if self._is_put_off:
            self._came = number
            return
        self._is_on = False
        raise CommandError(self._cause) if self._cause else KeyboardInterrupt


_guard = _Guard()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While it lasts, a dead worker, Ctrl-C and SIGTERM end the run.

    Raises:
        CommandError: a worker process died.
        KeyboardInterrupt: the command was told to end.
    """
    _quieten_threads()
    with _guard.on():
        yield


def _quieten_threads() -> None:
    """Keeps Beam's threads from telling of a lost connection, for good: some notice it only after the run has ended."""
    shown = threading.excepthook
    if not (isinstance(shown, functools.partial) and shown.func is _show):
        threading.excepthook = functools.partial(_show, shown)


def _show(
    shown: Callable[[threading.ExceptHookArgs], object], args: threading.ExceptHookArgs
) -> None:
    if not is_lost_connection(args.exc_value):
        shown(args)


def is_lost_connection(error: BaseException | None) -> bool:
    """Whether one of Beam's threads says by this error that what it was connected to is gone: that is said once."""
    return isinstance(error, grpc.RpcError)
