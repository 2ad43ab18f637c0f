"""`python -m tfrs_mmse.train` on a cluster of two real processes over loopback."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tfrs_mmse import checkpoints, restore, schema, train

SETTINGS = [
    "grains=word,category",
    "embedding_dim=8",
    "attribute_dim=4",
    "batch_size=4",
    "synthetic_queries=4",
    "uniform_negatives=8",
    "epochs=20",
]


def free_addresses(number: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("localhost", 0)))
            for _ in range(number)
        ]
        return [f"localhost:{s.getsockname()[1]}" for s in sockets]


class Ended(NamedTuple):
    status: int
    out: str
    err: str


class Workers:
    """The processes of one cluster."""

    def __init__(self, data: list[Path], model_dir: Path) -> None:
        self._addresses = free_addresses(len(data))
        self._data, self._model_dir = data, model_dir
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, worker: int, *settings: str) -> None:
        config = {
            "cluster": {"worker": self._addresses},
            "task": {"type": "worker", "index": worker},
        }
        argv = [sys.executable, "-m", "tfrs_mmse.train", "--checkpoint-seconds", "1"]
        argv += ["--data", str(self._data[worker])]
        argv += ["--model-dir", str(self._model_dir)]
        for setting in (*SETTINGS, *settings):
            argv += ["--set", setting]
        self._processes[worker] = subprocess.Popen(
            argv,
            env=os.environ | {"TF_CONFIG": json.dumps(config)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_after_a_new_checkpoint(self, worker: int) -> None:
        before = checkpoints.saved(self._model_dir)
        deadline = time.monotonic() + 200
        while checkpoints.saved(self._model_dir) == before:
            running = [p.poll() is None for p in self._processes.values()]
            assert all(running) and time.monotonic() < deadline
            time.sleep(0.01)
        process = self._processes.pop(worker)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def wait(self) -> list[Ended]:
        ended = []
        for _, process in sorted(self._processes.items()):
            out, err = process.communicate(timeout=300)
            ended.append(Ended(process.returncode, out, err))
        return ended

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()


@pytest.fixture
def workers() -> Iterator[Any]:
    """Makes clusters, and leaves none of their processes behind."""
    made = []

    def make(data: list[Path], model_dir: Path) -> Workers:
        made.append(Workers(data, model_dir))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


def weights(model_dir: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint: the model, the optimiser's slots, the step."""
    reader = tf.train.load_checkpoint(str(checkpoints.saved(model_dir)[-1]))
    names = reader.get_variable_to_shape_map().keys()
    return {name: reader.get_tensor(name) for name in names if "GRAPH" not in name}


def told(ended: Ended) -> str:
    """What a worker said on stderr, without TensorFlow's own lines."""
    lines = ended.err.splitlines(keepends=True)
    return "".join(x for x in lines if not re.match(r"WARNING: All log|[IWE]\d{4} ", x))


@pytest.mark.slow
def test_a_cluster_whose_workers_are_killed_ends_as_if_nothing_had_happened(
    simulated_shop: Any, tmp_path: Path, workers: Any
) -> None:
    data = simulated_shop.examples
    whole = workers([data] * 2, tmp_path / "whole")
    for worker in range(2):
        whole.start(worker)
    chief, other = whole.wait()
    assert (chief.status, other.status) == (0, 0), chief.err + other.err
    # One of them speaks and writes.
    assert json.loads(chief.out)["metrics"]["epoch"] == 20
    assert told(chief).count("epoch 20/20") == 1
    assert (told(other), other.out) == ("", "")
    assert len(list((tmp_path / "whole" / "tensorboard").iterdir())) == 1

    killed = workers([data] * 2, tmp_path / "killed")
    for worker in range(2):
        killed.start(worker)
    for worker in (1, 0):
        killed.kill_after_a_new_checkpoint(worker)
        killed.start(worker)
    chief, other = killed.wait()
    assert (chief.status, other.status) == (0, 0), chief.err + other.err
    assert re.search(
        r"^a worker is lost \(.+\): starting again, from ckpt-\d+$", told(other), re.M
    )
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)
    first, second = (
        (tmp_path / name / schema.METRICS).read_text() for name in ("whole", "killed")
    )
    assert first == second

    # One process alone reads the model, and does not go on with a training of two.
    trained = restore.load_trained(data, tmp_path / "whole")
    assert trained.model.query_embedding(
        trained.featurizer.query(tf.constant(["a"]))
    ).shape == [1, 8 + 4]
    with pytest.raises(restore.CommandError, match=r"of 2 workers, and .* has 1: give"):
        train_alone(data, tmp_path / "whole")


def train_alone(data: Path, model_dir: Path) -> None:
    from tfrs_mmse.trainer import train as train_model

    train_model(train.resolve("mmse", None, SETTINGS), data, model_dir)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["config", "examples"])
def test_workers_that_differ_refuse_in_one_sentence(
    simulated_shop: Any, tmp_path: Path, workers: Any, what: str
) -> None:
    data = simulated_shop.examples
    settings = ["learning_rate=0.2"] if what == "config" else []
    other_data = data
    if what == "examples":
        other_data = tmp_path / "other"
        shutil.copytree(data, other_data)
        manifest = json.loads((data / schema.MANIFEST).read_text())
        manifest["num_items"] += 1
        (other_data / schema.MANIFEST).write_text(json.dumps(manifest))
    cluster = workers([data, other_data], tmp_path / "run")
    cluster.start(0)
    cluster.start(1, *settings)
    for ended in cluster.wait():
        assert ended.status == 1
        assert told(ended).splitlines()[-1] == (
            f"error: worker 1 and worker 0 have different {what}: start every worker with the same command on the "
            "same files"
        )
    assert not (tmp_path / "run").exists()


def test_a_wrong_tf_config_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_CONFIG", "{")
    flags = ["--data", str(tmp_path), "--model-dir", str(tmp_path / "run")]
    assert train.main(flags) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(r"error: .*TF_CONFIG is not valid JSON.*\n", captured.err)
    assert captured.out == ""
