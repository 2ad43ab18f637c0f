"""What of `TF_CONFIG` is understood, and what is refused in one sentence."""

import json
import re
from typing import Any

import pytest

from tfrs_mmse.cli import CommandError
from tfrs_mmse.tf_config import Task, read_task

TWO = {"worker": ["a:1", "b:1"]}


def read(cluster: Any, kind: Any = "worker", index: Any = 0) -> Task | None:
    config = {"cluster": cluster, "task": {"type": kind, "index": index}}
    return read_task({"TF_CONFIG": json.dumps(config)})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        {"TF_CONFIG": '{"environment": "cloud"}'},
        {"TF_CONFIG": json.dumps({"cluster": {}, "task": {}})},
    ],
)
def test_without_a_cluster_a_process_is_alone(environment: dict[str, str]) -> None:
    assert read_task(environment) is None


def test_the_only_task_of_a_cluster_is_alone() -> None:
    assert read({"chief": ["a:1"]}, "chief") is None


def test_the_chief_stands_before_the_workers() -> None:
    task = read({"worker": ["b:1", "c:1"], "chief": ["a:1"]}, "worker", 1)
    assert task is not None
    assert task.workers == ["chief 0", "worker 0", "worker 1"]
    assert (task.type, task.index, task.has_parameter_servers) == ("worker", 1, False)


def test_an_index_may_be_text() -> None:
    assert read(TWO, "worker", "1") == Task(
        {"worker": ("a:1", "b:1")}, type="worker", index=1
    )


def test_parameter_servers_are_no_workers() -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}
    task = read(cluster, "ps")
    assert task is not None and task.has_parameter_servers
    assert task.workers == ["chief 0", "worker 0"]


@pytest.mark.parametrize("text", ["{", "worker", '{"cluster": '])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="TF_CONFIG is not valid JSON") as e:
        read_task({"TF_CONFIG": text})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "message"),
    [
        (TWO, "worker", 2, "needs a task index from 0 to 1 for worker, got 2"),
        (TWO, "worker", -1, "needs a task index from 0 to 1 for worker, got -1"),
        (TWO, "worker", None, "needs a task index from 0 to 1 for worker, got null"),
        (TWO, "chief", 0, "needs as task type one of its cluster's, worker, got chief"),
        (TWO, ["worker"], 0, "needs as task type one of its cluster's, worker, got"),
        (TWO | {"evaluator": ["c:1"]}, "worker", 0, "chief, worker, ps, got evaluator"),
        ({"worker": "a:1"}, "worker", 0, "a list of host:port for worker, got a:1"),
        ({"worker": ["a", "b:1"]}, "worker", 0, "a list of host:port for worker, got"),
        ({"worker": ["a:99999", "b:1"]}, "worker", 0, "a list of host:port for worker"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "address of its own .*, got a:1"),
        ({"chief": ["a:1", "b:1"]}, "chief", 0, "can have one chief, got 2"),
        (["a:1", "b:1"], "worker", 0, "an object of addresses by task type"),
        (
            {"worker": ["a:1"], "ps": ["b:1"]},
            "worker",
            0,
            "with ps tasks needs a chief and at least one worker, got worker, ps",
        ),
    ],
)
def test_a_task_that_is_not_in_its_cluster_is_refused(
    cluster: Any, kind: Any, index: Any, message: str
) -> None:
    with pytest.raises(CommandError, match=message) as e:
        read(cluster, kind, index)
    assert re.search("correct it, or unset it to train in one process$", str(e.value))


@pytest.mark.parametrize("task", [None, {}, {"type": "worker"}, "worker"])
def test_a_cluster_without_a_task_is_refused(task: Any) -> None:
    text = json.dumps({"cluster": TWO, "task": task})
    with pytest.raises(CommandError, match="needs `task` with `type` and `index`, got"):
        read_task({"TF_CONFIG": text})
