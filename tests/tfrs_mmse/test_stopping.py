"""Signals to a training: one process, and the object by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tfrs_mmse import checkpoints, cli
from tfrs_mmse.stopping import Stop


def test_a_signal_ends_at_once_outside_of_what_is_patient() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(cli.Stopped, match="stopped by SIGTERM at once"), Stop():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_patient_goes_on_until_it_obeys() -> None:
    done = []
    with Stop() as stop, pytest.raises(cli.Stopped) as caught, stop.patient():
        for step in range(5):
            stop.obey(f"after {step} steps")
            done.append(step)
            if step == 2:
                os.kill(os.getpid(), signal.SIGINT)
                assert stop.is_asked_for
    assert done == [0, 1, 2]
    assert (
        str(caught.value) == "stopped by SIGINT after 3 steps: the same command goes on"
    )
    assert caught.value.exit_status == 130


def test_the_second_signal_is_obeyed_at_once() -> None:
    with Stop() as stop, pytest.raises(cli.Stopped, match="at once"), stop.patient():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_without_signals_nothing_is_asked_for() -> None:
    stop = Stop()
    with stop.patient():
        stop.obey("never")
    assert not stop.is_asked_for


def test_a_stopped_command_says_so_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @cli.command
    def main(argv: object = None) -> None:
        raise cli.Stopped(signal.SIGTERM, "after step 3")

    assert main([]) == 143
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "stopped by SIGTERM after step 3: the same command goes on\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_saves_the_step_that_it_came_to(
    simulated_shop: Any, tmp_path: Path, number: signal.Signals
) -> None:
    argv = [sys.executable, "-m", "tfrs_mmse.train", "--checkpoint-seconds", "1"]
    argv += ["--data", str(simulated_shop.examples), "--model-dir", str(tmp_path)]
    for setting in ("grains=word", "embedding_dim=8", "batch_size=4", "epochs=1000"):
        argv += ["--set", setting]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not checkpoints.saved(tmp_path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    step = checkpoints.saved(tmp_path)[-1].name.removeprefix("ckpt-")
    last = err.splitlines()[-1]
    assert last.startswith(f"stopped by {number.name} after step {step} of ")
    assert last.endswith(", which is saved: the same command goes on")
    assert "Traceback" not in err
