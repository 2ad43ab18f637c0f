"""The same command on an engine behind a job server: Flink, and the one that comes with Beam and needs no download.

Both speak the same protocols with the command and with the workers, so what only they ask of the pipeline (its graph
as a message, errors as text, counters from another process) is tested on any machine. Flink itself is tested where
there is Java and a job server for it (`flink_server.py`), errors and kills then with it alone.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.beam.flink_server import flink_jar
from tests.beam.processes import children
from tests.conftest import Shop

SECONDS = 300  # until something surely hangs and is not only slow

pytestmark = pytest.mark.slow


class Engine(NamedTuple):
    """What a run needs of an engine.

    Attributes:
        flags: The flags that choose it.
        server: Finds the process to kill, given the command's: the job server, in Flink's case with the task manager.
    """

    flags: list[str]
    server: Callable[[int], int]


@pytest.fixture(params=["beam", "flink"])
def each_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "beam":
        with beams_own(tmp_path) as engine:
            yield engine
    elif (jar := flink_jar()) is None:
        pytest.skip("there is no Java, or no job server of Flink for it")
    else:
        yield flink(jar)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Flink, if it can be had."""
    if (jar := flink_jar()) is not None:
        yield flink(jar)
        return
    with beams_own(tmp_path) as own:
        yield own


@contextlib.contextmanager
def beams_own(tmp_path: Path) -> Iterator[Engine]:
    port = tmp_path / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    with subprocess.Popen(
        [sys.executable, "-m", module, "--port_file", str(port)],
        stderr=subprocess.DEVNULL,
    ) as server:
        wait_for(port.exists)
        # LOOPBACK: the workers are threads of the command.
        flags = [
            "--runner=PortableRunner",
            "--environment_type=LOOPBACK",
            f"--job_endpoint=localhost:{port.read_text()}",
        ]
        yield Engine(flags, lambda _: server.pid)
        server.kill()


def flink(jar: Path) -> Engine:
    """A local Flink with two task slots, inside the job server's process.

    The options of the Java machine are those that Flink itself starts with on Java 17.
    """
    opened = [
        f"--job_server_jvm_properties=--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in ("java.lang", "java.util")
    ]
    flags = [
        "--runner=FlinkRunner",
        "--flink_master=[local]",
        "--parallelism=2",
        *opened,
    ]
    return Engine([*flags, f"--flink_job_server_jar={jar}"], java_of)


def java_of(command: int) -> int:
    """The Java process that the command started."""
    (found,) = [
        pid
        for pid in children(command)
        if Path(f"/proc/{pid}/comm").read_text() == "java\n"
    ]
    return found


def arguments(shop: Shop, output: Path, engine: Engine) -> list[str]:
    names = ["--events", shop.events, "--items", shop.items, "--output", output]
    return [sys.executable, "-m", "beam.preprocess", *map(str, names), *engine.flags]


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_records_and_the_accounting_are_those_of_the_direct_runner(
    simulated_shop: Shop, each_engine: Engine, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        arguments(simulated_shop, output, each_engine), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert files(output) == files(simulated_shop.examples)
    manifest = json.loads((output / "manifest.json").read_text())
    assert json.loads(done.stdout)["accounting"] == manifest["accounting"]


def test_an_error_of_a_worker_is_one_sentence(
    simulated_shop: Shop, engine: Engine, tmp_path: Path
) -> None:
    cut = tmp_path / "events.jsonl.gz"
    cut.write_bytes(simulated_shop.events.read_bytes()[:-1000])
    shop = simulated_shop._replace(events=cut)
    done = subprocess.run(
        arguments(shop, tmp_path / "out", engine), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    # What stands above it is what a worker inside the command printed.
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {cut} is not a whole gzip file"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_engine_that_is_killed_ends_the_run_and_the_older_output_stays(
    simulated_shop: Shop, engine: Engine, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(simulated_shop.examples, output)
    with subprocess.Popen(
        arguments(simulated_shop, output, engine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        wait_for((output / "_unfinished" / "vocab" / "word.txt").exists)
        os.kill(engine.server(command.pid), signal.SIGKILL)
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out) == (1, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(
        "error: the runner is gone before the job was done: "
    )
    assert files(output) == files(simulated_shop.examples)
