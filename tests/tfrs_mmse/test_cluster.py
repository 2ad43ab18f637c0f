"""`python -m tfrs_mmse.train` on a cluster of two real processes over loopback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.tfrs_mmse.runs import free_addresses, weights
from tfrs_mmse import checkpoints, restore, schema, train
from tfrs_mmse.batches import training_batches

SETTINGS = [
    "grains=word",
    "embedding_dim=8",
    "attribute_dim=4",
    "batch_size=4",
    "epochs=14",
]


class Ended(NamedTuple):
    status: int
    out: str
    err: str


class Processes:
    """Those of one cluster, which train into one model directory."""

    def __init__(self, model_dir: Path, **num_tasks: int) -> None:
        addresses = iter(free_addresses(sum(num_tasks.values())))
        self._cluster = {
            kind: [next(addresses) for _ in range(number)]
            for kind, number in num_tasks.items()
        }
        self._model_dir = model_dir
        self._running: dict[tuple[str, int], subprocess.Popen[str]] = {}

    def start(self, kind: str, index: int, data: Path, *settings: str) -> None:
        task = {"type": kind, "index": index}
        config = json.dumps({"cluster": self._cluster, "task": task})
        argv = [sys.executable, "-m", "tfrs_mmse.train", "--data", str(data)]
        argv += ["--model-dir", str(self._model_dir), "--preset", "two_tower"]
        argv += ["--checkpoint-seconds", "1"]
        for setting in (*SETTINGS, *settings):
            argv += ["--set", setting]
        self._running[kind, index] = subprocess.Popen(
            argv,
            env=os.environ | {"TF_CONFIG": config},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_after_a_new_checkpoint(self, kind: str, index: int) -> None:
        before = checkpoints.saved(self._model_dir)
        deadline = time.monotonic() + 200
        while checkpoints.saved(self._model_dir) == before:
            running = [p.poll() is None for p in self._running.values()]
            assert all(running) and time.monotonic() < deadline
            time.sleep(0.01)
        process = self._running.pop((kind, index))
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def wait(self) -> list[Ended]:
        ended = []
        for _, process in sorted(self._running.items()):
            out, err = process.communicate(timeout=300)
            ended.append(Ended(process.returncode, out, err))
        return ended

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.communicate()


@pytest.fixture
def cluster_of() -> Iterator[Any]:
    """Makes clusters, and leaves none of their processes behind."""
    made = []

    def make(model_dir: Path, **num_tasks: int) -> Processes:
        made.append(Processes(model_dir, **num_tasks))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


def told(ended: Ended) -> str:
    """What a worker said on stderr, without TensorFlow's own lines."""
    lines = ended.err.splitlines(keepends=True)
    return "".join(x for x in lines if not re.match(r"WARNING: All log|[IWE]\d{4} ", x))


@pytest.mark.slow
def test_a_cluster_whose_workers_are_killed_ends_as_if_nothing_had_happened(
    simulated_shop: Any, tmp_path: Path, cluster_of: Any
) -> None:
    data = simulated_shop.examples
    whole = cluster_of(tmp_path / "whole", worker=2)
    for worker in range(2):
        whole.start("worker", worker, data)
    chief, other = whole.wait()
    assert (chief.status, other.status) == (0, 0), chief.err + other.err
    # One of them speaks and writes.
    assert json.loads(chief.out)["metrics"]["epoch"] == 14
    assert told(chief).count("epoch 14/14") == 1
    assert (told(other), other.out) == ("", "")
    assert len(list((tmp_path / "whole" / "tensorboard").iterdir())) == 1

    killed = cluster_of(tmp_path / "killed", worker=2)
    for worker in range(2):
        killed.start("worker", worker, data)
    for worker in (1, 0):
        killed.kill_after_a_new_checkpoint("worker", worker)
        killed.start("worker", worker, data)
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

    # One process reads the model, and does not go on with a training of two.
    assert restored_loss(data, tmp_path / "whole") < 1
    with pytest.raises(restore.CommandError, match=r"of 2 workers, and .* has 1: give"):
        train_alone(data, tmp_path / "whole")


def train_alone(data: Path, model_dir: Path, *settings: str) -> Any:
    from tfrs_mmse.trainer import train as train_model

    config = train.resolve("two_tower", None, [*SETTINGS, *settings])
    return train_model(config, data, model_dir)


def restored_loss(data: Path, model_dir: Path) -> float:
    """Of the first batch, with the model as one process reads it."""
    trained = restore.load_trained(data, model_dir)
    config, manifest, featurizer, model = trained
    batches = training_batches(
        config, data, featurizer, num_items=manifest.num_items, steps_per_epoch=1
    )
    return float(model.compute_loss(next(iter(batches))))


@pytest.mark.slow
def test_parameter_servers_hold_a_table_in_parts_and_save_it_as_one(
    simulated_shop: Any, tmp_path: Path, cluster_of: Any
) -> None:
    data = simulated_shop.examples
    # About 400 words: 0.8 MB of table, of which a quarter of an MB is worth a shard.
    settings = ("embedding_dim=512", "batch_size=16", "epochs=4")
    cluster = cluster_of(tmp_path, chief=1, ps=2, worker=1)
    for kind, index in [("ps", 0), ("ps", 1), ("worker", 0), ("chief", 0)]:
        cluster.start(kind, index, data, *settings)
    chief, *others = cluster.wait()
    assert chief.status == 0, chief.err
    assert [(other.status, other.out) for other in others] == [(0, "")] * 3
    summary = json.loads(chief.out)
    assert summary["metrics"]["retrieval_loss"] < 2
    # Each server has written its part, the chief the rest.
    newest = checkpoints.saved(tmp_path)[-1]
    assert len(list(newest.parent.glob(f"{newest.name}.data-*-of-00003"))) == 3
    assert restored_loss(data, tmp_path) < 2
    # The same command in one process finds the training done.
    assert train_alone(data, tmp_path, *settings)["metrics"] == summary["metrics"]


@pytest.mark.slow
def test_workers_with_different_examples_refuse_in_one_sentence(
    simulated_shop: Any, tmp_path: Path, cluster_of: Any
) -> None:
    data, other_data = simulated_shop.examples, tmp_path / "other"
    shutil.copytree(data, other_data)
    manifest = json.loads((data / schema.MANIFEST).read_text())
    manifest["config"]["split_by"] = "otherwise"
    (other_data / schema.MANIFEST).write_text(json.dumps(manifest))
    cluster = cluster_of(tmp_path / "run", worker=2)
    cluster.start("worker", 0, data)
    cluster.start("worker", 1, other_data)
    for ended in cluster.wait():
        assert ended.status == 1
        assert told(ended).splitlines()[-1] == (
            "error: worker 1 and worker 0 have different examples: start every worker with the same command on the "
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
