"""Trainings that are killed, torn or broken, and go on by the same command."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tfrs_mmse.runs import arguments, metrics, weights
from tfrs_mmse import checkpoints, restore, train
from tfrs_mmse.model import TwoTowerModel


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    simulated_shop: Any, tmp_path: Path
) -> None:
    settings = ["epochs=16", "batch_size=4"]  # about 30 steps an epoch
    data = simulated_shop.examples
    assert train.main(arguments(data, tmp_path / "whole", *settings)) == 0
    argv = [sys.executable, "-m", "tfrs_mmse.train", "--checkpoint-seconds", "1"]
    argv += arguments(data, tmp_path / "killed", *settings)
    lot = random.Random(0)
    restored = set()
    for _ in range(3):
        before = checkpoints.saved(tmp_path / "killed")
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while checkpoints.saved(tmp_path / "killed") == before:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(lot.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
            assert process.stderr is not None
            said = process.stderr.read()
        restored |= set(re.findall(r"continuing after step (\d+) of", said))
    finished = subprocess.run(argv, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert len(restored) == 2
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, killed[name], err_msg=name)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_after_a_torn_checkpoint_the_result_is_the_same(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(simulated_shop.examples, tmp_path, "epochs=3")
    assert train.main(argv) == 0
    whole = weights(tmp_path)
    before, newest = checkpoints.saved(tmp_path)
    data = newest.with_name(f"{newest.name}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:1000])
    capsys.readouterr()
    assert train.main(argv) == 0
    said = capsys.readouterr().err
    assert f"the checkpoint {newest} cannot be read" in said
    assert f"continuing after step {before.name.removeprefix('ckpt-')} of" in said
    assert [entry["epoch"] for entry in metrics(tmp_path)] == [1, 2, 3]
    again = weights(tmp_path)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_a_finished_run_is_not_trained_again(
    simulated_shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(simulated_shop.examples, tmp_path / "run", "epochs=2")
    assert train.main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert train.main(argv) == 0
    captured = capsys.readouterr()
    assert re.search(r"continuing after step (\d+) of \1\n", captured.err)
    assert json.loads(captured.out)["metrics"] == first["metrics"]


def test_the_last_good_checkpoint_survives_a_broken_step(
    simulated_shop: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    healthy = TwoTowerModel.compute_loss

    def breaks_at_step_4(self: Any, inputs: Any, training: bool = False) -> tf.Tensor:
        loss = healthy(self, inputs, training)
        return loss + tf.where(self.optimizer.iterations < 3, 0.0, float("nan"))

    monkeypatch.setattr(TwoTowerModel, "compute_loss", breaks_at_step_4)
    # Two steps an epoch.
    argv = arguments(simulated_shop.examples, tmp_path, "epochs=3")
    assert train.main(argv) == 1
    assert re.search(
        "at step 4, in epoch 2, .*; ckpt-2 is kept\n$", capsys.readouterr().err
    )
    assert [entry["epoch"] for entry in metrics(tmp_path)] == [1]
    model = restore.load_trained(simulated_shop.examples, tmp_path).model
    assert all(tf.reduce_all(tf.math.is_finite(v)) for v in model.trainable_variables)
    # The same command goes on from there.
    monkeypatch.setattr(TwoTowerModel, "compute_loss", healthy)
    assert train.main(argv) == 0
    assert [entry["epoch"] for entry in metrics(tmp_path)] == [1, 2, 3]
