"""Trainings that stop early, by the real command; where a test needs it, recall is what the test says."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tfrs_mmse.runs import arguments, metrics, tensors
from tfrs_mmse import checkpoints, restore, schema, train
from tfrs_mmse.early_stopping import RECALL
from tfrs_mmse.recall_sample import RecallSample

STOPPING = ("validation_share=0.2", "patience=2")
# Of the epochs, each of two steps: the second is the best.
SCRIPT = [0.1, 0.5, 0.4, 0.5]


def best(model_dir: Path) -> Path:
    path = checkpoints.best(model_dir)
    assert path is not None
    return path


def follow_script(monkeypatch: pytest.MonkeyPatch) -> None:
    def recall(sample: Any) -> float:
        return SCRIPT[int(sample._model.optimizer.iterations) // 2 - 1]

    monkeypatch.setattr(RecallSample, "recall", recall)


def test_a_training_stops_keeps_its_best_epoch_and_knows_that_it_is_finished(
    simulated_shop: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = simulated_shop.examples
    follow_script(monkeypatch)
    argv = arguments(data, tmp_path, *STOPPING, "batch_size=64", "epochs=12")
    # Killed after the best epoch's checkpoint, before it is marked.
    with monkeypatch.context() as killed:
        mark = checkpoints.Checkpoints.mark_best

        def dies(self: Any, step: int) -> None:
            if step == 4:
                raise KeyboardInterrupt
            mark(self, step)

        killed.setattr(checkpoints.Checkpoints, "mark_best", dies)
        assert train.main(argv) == 1
    assert best(tmp_path).name == "ckpt-2"
    capsys.readouterr()

    assert train.main(argv) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["stopped_early"] and result["steps"] == 8
    assert result["best"]["epoch"] == 2 and result["metrics"]["epoch"] == 4
    assert [entry[RECALL] for entry in metrics(tmp_path)] == SCRIPT
    assert re.search(r"^epoch 4/12: .*recall@10 0\.5\b", err, re.MULTILINE)
    assert "has not risen for 2 epochs" in err

    assert [path.name for path in checkpoints.saved(tmp_path)] == [
        "ckpt-4",
        "ckpt-6",
        "ckpt-8",
    ]
    assert best(tmp_path).name == "ckpt-4"
    model = restore.load_trained(data, tmp_path).model
    kept = tensors(best(tmp_path))
    [name] = [n for n in kept if "fusion_logits" in n and "OPTIMIZER" not in n]
    np.testing.assert_array_equal(model.query_tower._fusion_logits, kept[name])
    last = tensors(checkpoints.saved(tmp_path)[-1])
    assert not np.array_equal(last[name], kept[name])

    assert train.main(argv) == 0
    again, err = capsys.readouterr()
    assert "the training was finished already, after 8 steps" in err
    assert json.loads(again)["best"] == result["best"]
    assert json.loads(again)["metrics"] == result["metrics"]
    assert json.loads(again)["examples_per_second"] is None
    assert len(metrics(tmp_path)) == 4


@pytest.mark.slow
def test_a_run_that_is_killed_stops_at_the_same_epoch_with_the_same_model(
    simulated_shop: Any, tmp_path: Path
) -> None:
    settings = ["epochs=40", "batch_size=8"]
    data = simulated_shop.examples
    assert train.main(arguments(data, tmp_path / "whole", *STOPPING, *settings)) == 0
    whole = metrics(tmp_path / "whole")
    assert len(whole) < 40  # or nothing is shown
    argv = [sys.executable, "-m", "tfrs_mmse.train", "--checkpoint-seconds", "1"]
    argv += arguments(data, tmp_path / "killed", *STOPPING, *settings)
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while not checkpoints.saved(tmp_path / "killed"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.Random(0).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
    finished = subprocess.run(argv, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert metrics(tmp_path / "killed") == whole
    assert best(tmp_path / "killed").name == best(tmp_path / "whole").name
    ours, theirs = (tensors(best(tmp_path / name)) for name in ("whole", "killed"))
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.fixture
def older(embedded_shop: Any, tmp_path: Path) -> Path:
    """A finished run from before there was early stopping."""
    run = Path(shutil.copytree(embedded_shop.model_dir, tmp_path / "run"))
    saved = json.loads((run / schema.CONFIG).read_text())
    for name in ("patience", "validation_share"):
        del saved["config"][name]
    (run / schema.CONFIG).write_text(json.dumps(saved))
    return run


def test_an_older_run_goes_on_and_loads(
    simulated_shop: Any, older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["embedding_dim=8", "attribute_dim=4", "batch_size=64", "epochs=1"]
    argv = ["--data", str(simulated_shop.examples), "--model-dir", str(older)]
    argv += [flag for size in sizes for flag in ("--set", size)]
    assert train.main(argv) == 0
    assert train.main([*argv, "--set", "patience=1"]) == 1
    assert "with another config (patience 0 -> 1)" in capsys.readouterr().err
    restore.load_trained(simulated_shop.examples, older)


def test_how_a_training_was_stopped_is_in_no_fingerprint(embedded_shop: Any) -> None:
    towers = restore.load_towers(embedded_shop.model_dir)
    stopped = towers.config.override(["patience=3", "validation_share=0.1"])
    assert restore.fingerprint(stopped, towers.model) == restore.fingerprint(
        towers.config, towers.model
    )
