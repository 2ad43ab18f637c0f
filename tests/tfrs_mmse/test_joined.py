"""What a process does when a task of its cluster is lost, with a cluster that is only pretended."""

import signal
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfrs_mmse import cluster, restarts
from tfrs_mmse.cli import CommandError, Stopped
from tfrs_mmse.stopping import Stop
from tfrs_mmse.tf_config import Task

TWO = Task({"worker": ("a:1", "b:1")}, type="worker", index=0)
SERVED = Task(
    {"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1",)}, type="chief", index=0
)


class Restarted(Exception):
    pass


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cluster.parameter_servers,
        "strategy_of",
        lambda _: tf.distribute.OneDeviceStrategy("CPU:0"),
    )
    monkeypatch.setattr(
        tf.distribute,
        "MultiWorkerMirroredStrategy",
        lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
    )

    def execute(*_: Any) -> None:
        raise Restarted

    monkeypatch.setattr(restarts.os, "execv", execute)
    monkeypatch.setattr(restarts.time, "sleep", lambda _: None)
    monkeypatch.delenv("TFRS_MMSE_RESTARTS", raising=False)


def lose(task: Task, model_dir: Path, stop: Stop) -> None:
    with cluster.joined(task, model_dir, stop):
        raise tf.errors.UnavailableError(None, None, "gone")


def save(model_dir: Path, step: int) -> None:
    (model_dir / "checkpoints").mkdir(exist_ok=True)
    (model_dir / "checkpoints" / f"ckpt-{step}.index").touch()


def test_a_worker_starts_again_until_it_is_in_vain_and_a_checkpoint_is_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
        for _ in range(10):
            with pytest.raises(Restarted):
                lose(TWO, tmp_path, Stop())
            assert capsys.readouterr().err == (
                f"a worker is lost (UnavailableError): starting again, from ckpt-{step}\n"
            )
    with pytest.raises(CommandError, match="after 10 new starts there is no newer"):
        lose(TWO, tmp_path, Stop())


def test_a_worker_that_is_told_to_stop_does_not_start_again(tmp_path: Path) -> None:
    with Stop() as stop, stop.patient():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            lose(TWO, tmp_path, stop)


def test_a_chief_without_a_parameter_server_ends(tmp_path: Path) -> None:
    save(tmp_path, 7)
    with pytest.raises(CommandError, match=r"start all of them again; ckpt-7 is kept$"):
        lose(SERVED, tmp_path, Stop())


def test_an_error_of_one_process_alone_is_its_own(tmp_path: Path) -> None:
    with (
        pytest.raises(tf.errors.UnavailableError),
        cluster.joined(None, tmp_path, Stop()),
    ):
        raise tf.errors.UnavailableError(None, None, "gone")
