"""What is left of a run on several processes when one of them, or the command itself, is ended in the middle."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import grpc
import pytest

from beam import workers
from beam.local import make_pipeline, run
from tests.beam.processes import children
from tests.conftest import Shop
from tfrs_mmse.cli import CommandError

TWO_PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
SECONDS = 120  # until something surely hangs and is not only slow


class Run(NamedTuple):
    """A command that runs on two processes.

    Attributes:
        command: The process of the command.
        output: Its output, which holds an older run.
        older: The files of the older run.
    """

    command: subprocess.Popen[str]
    output: Path
    older: dict[Path, bytes]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return sorted(children(self.command.pid))

    def started(self) -> list[int]:
        wait_for(lambda: len(self.workers()) == 2)
        return self.workers()

    def is_in_the_last_steps(self) -> bool:
        return (self.output / "_unfinished" / "vocab" / "word.txt").exists()

    def ended(self) -> tuple[str, str]:
        """What was printed on stdout and stderr."""
        return self.command.communicate(timeout=SECONDS)


@pytest.fixture
def running(simulated_shop: Shop, tmp_path: Path) -> Iterator[Run]:
    output = tmp_path / "out"
    shutil.copytree(simulated_shop.examples, output)
    names = [
        "--events",
        simulated_shop.events,
        "--items",
        simulated_shop.items,
        "--output",
        output,
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "beam.preprocess", *map(str, names), *TWO_PROCESSES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        yield Run(command, output, files(output))
        command.kill()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that has ended, and that nobody asked about yet, is not alive."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["as it starts", "in the last steps"])
def test_a_killed_worker_ends_the_run_and_the_older_output_stays(
    running: Run, moment: str
) -> None:
    pids = running.started()
    if (
        moment == "in the last steps"
    ):  # which give nothing back: Beam alone would wait for the dead one's answer
        wait_for(running.is_in_the_last_steps)
    os.kill(pids[1], signal.SIGKILL)
    out, err = running.ended()
    assert running.command.returncode == 1
    assert out == "" and "Traceback" not in err
    assert err.splitlines()[-1].startswith(
        "error: a worker process was killed (SIGKILL); if nobody did that, "
    )
    assert files(running.output) == running.older
    assert not any(map(is_alive, pids))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_workers_and_leaves_nothing(
    running: Run, number: signal.Signals
) -> None:
    pids = running.started()
    running.command.send_signal(number)
    out, err = running.ended()
    assert running.command.returncode == 1
    assert out == "" and "Traceback" not in err
    assert err.splitlines()[-1] == "error: interrupted"
    assert files(running.output) == running.older
    assert not any(map(is_alive, pids))


def test_a_signal_while_a_worker_starts_ends_the_run_when_it_can_be_ended_too() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), workers.guarded():
        with workers._guard.put_off():
            signal.raise_signal(signal.SIGINT)
            done.append("started")
        done.append("went on")
    assert done == ["started"]


@pytest.mark.slow
def test_workers_of_a_killed_command_end_by_themselves(running: Run) -> None:
    pids = running.started()
    running.command.kill()
    running.command.wait()
    wait_for(lambda: not any(map(is_alive, pids)))
    unfinished = running.output / "_unfinished"
    assert {
        path: data
        for path, data in files(running.output).items()
        if unfinished not in path.parents
    } == running.older


def test_a_worker_that_cannot_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        workers, "_COMMAND", (sys.executable, "-c", "raise SystemExit('no room')")
    )
    pipeline = make_pipeline(TWO_PROCESSES)
    _ = pipeline | beam.Create([1]) | beam.Map(str)
    with pytest.raises(
        CommandError, match=r"^a worker process ended with status 1: no room$"
    ):
        run(pipeline)


def test_signals_are_handled_as_before_when_a_run_is_over() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    pipeline = make_pipeline([])
    _ = pipeline | beam.Create([1])
    run(pipeline)
    assert [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    ] == before


@pytest.mark.parametrize(
    ("error", "is_told"), [(grpc.RpcError("Socket closed"), False), (OSError(), True)]
)
def test_a_thread_that_outlives_the_run_tells_of_no_lost_connection(
    error: Exception, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    for _ in range(2):
        with workers.guarded():
            thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert [args.exc_value for args in told] == [error] * is_told
