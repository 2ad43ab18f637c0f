"""`TF_CONFIG`: which tasks a cluster has, and which of them this process is."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from tfrs_mmse.cli import CommandError

VARIABLE = "TF_CONFIG"
CHIEF, WORKER, PARAMETER_SERVER = TYPES = ("chief", "worker", "ps")


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of a cluster of several.

    Attributes:
        cluster: Addresses `host:port` by task type; no type without any.
        type: `chief`, `worker` or `ps`.
        index: Among the tasks of its type.
    """

    cluster: Mapping[str, tuple[str, ...]]
    type: str
    index: int

    @property
    def workers(self) -> list[str]:
        """The tasks that compute, as `type index`: the chief, if there is one, and then the workers."""
        return [
            f"{kind} {index}"
            for kind in (CHIEF, WORKER)
            for index in range(len(self.cluster.get(kind, ())))
        ]

    @property
    def has_parameter_servers(self) -> bool:
        return PARAMETER_SERVER in self.cluster


def read_task(environment: Mapping[str, str] = os.environ) -> Task | None:
    """The task that `TF_CONFIG` names, or None where there is no cluster or nobody else in it.

    Raises:
        CommandError: it is no JSON, has an unknown type of task, or does not say which of its tasks this process is.
    """
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
    except ValueError as e:
        raise CommandError(
            f"the environment variable {VARIABLE} is not valid JSON ({e}): correct it, or unset it to train in one "
            "process"
        ) from None
    if not isinstance(config, dict):
        raise _wrong("must be a JSON object", text)
    if not config.get("cluster"):
        return None
    task = _task(_cluster(config["cluster"]), config.get("task"))
    if sum(len(addresses) for addresses in task.cluster.values()) == 1:
        return None
    _check_parameter_servers(task)
    return task


def _cluster(given: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        raise _wrong("needs an object of addresses by task type as `cluster`", given)
    if unknown := [kind for kind in given if kind not in TYPES]:
        raise _wrong(f"knows the task types {', '.join(TYPES)}", ", ".join(unknown))
    for kind, addresses in given.items():
        if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
            raise _wrong(f"needs a list of host:port for {kind}", addresses)
    if len(given.get(CHIEF, ())) > 1:
        raise _wrong("can have one chief", len(given[CHIEF]))
    everyone = [address for addresses in given.values() for address in addresses]
    if twice := sorted({a for a in everyone if everyone.count(a) > 1}):
        raise _wrong("needs an address of its own for each task", ", ".join(twice))
    return {kind: tuple(addresses) for kind, addresses in given.items() if addresses}


def _is_address(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def _task(cluster: dict[str, tuple[str, ...]], given: Any) -> Task:
    if not isinstance(given, dict) or not {"type", "index"} <= given.keys():
        raise _wrong("needs `task` with `type` and `index`", given)
    kind, index = given["type"], given["index"]
    if not isinstance(kind, str) or kind not in cluster:
        raise _wrong(
            f"needs as task type one of its cluster's, {', '.join(cluster)}", kind
        )
    # Some orchestrators write it as text.
    if not str(index).isdecimal() or int(index) >= len(cluster[kind]):
        raise _wrong(
            f"needs a task index from 0 to {len(cluster[kind]) - 1} for {kind}", index
        )
    return Task(cluster, kind, int(index))


def _check_parameter_servers(task: Task) -> None:
    if task.has_parameter_servers and not {CHIEF, WORKER} <= task.cluster.keys():
        raise _wrong(
            "with ps tasks needs a chief and at least one worker",
            ", ".join(task.cluster),
        )


def _wrong(wanted: str, got: Any) -> CommandError:
    got = got if isinstance(got, str) else json.dumps(got)
    return CommandError(
        f"the environment variable {VARIABLE} {wanted}, got {got}: correct it, or unset it to train in one process"
    )
