"""A table larger than any process may hold: its rows are spread over parameter servers, and it is trained.

    python -m benchmarks.train.sharded > benchmarks/results/train_sharded.json    # minutes; 16 GB of memory in all
    python -m benchmarks.train.sharded --quick

A catalogue of part numbers, each a word of its own, goes through `beam.preprocess`. The same training command is then
started alone, and as a cluster by `TF_CONFIG`, every process with the same limit of data (as by `ulimit -d`), which is
less than the table without its slots. Peaks are the largest resident sizes of the processes.
"""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks import machine, steps
from tfrs_mmse import cli, schema

_DIMENSIONS, _WORDS_PER_ITEM = 256, 8
_SETTINGS = (f"embedding_dim={_DIMENSIONS}", "grains=word", "batch_size=64", "epochs=2")


class Sizes(NamedTuple):
    """How much is trained.

    Attributes:
        words: Of the vocabulary, a row of the table each.
        servers: That share the rows.
        limit_mb: Of each process's data.
        requests: Of the log.
    """

    words: int = 1_500_000
    servers: int = 12
    limit_mb: int = 1_500
    requests: int = 2_000


FULL = Sizes()
QUICK = Sizes(words=300_000, servers=2, limit_mb=1_050)


class Ended(NamedTuple):
    status: int
    out: str
    said: str
    peak_mb: int


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints one JSON document."""
    parser = cli.argument_parser("benchmarks.train.sharded", __doc__)
    parser.add_argument("--quick", action="store_true", help="a small table")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        cli.print_result(measure(QUICK if args.quick else FULL, Path(folder)))


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Trains alone and as a cluster.

    Raises:
        CommandError: the cluster's training failed.
    """
    described = machine.describe(["tensorflow"])
    examples = _prepare(sizes, folder)
    spec = schema.Manifest.read(examples).features
    [size] = [grain.size for grain in spec.grains if grain.name == "word"]
    alone = _run([{}], sizes, examples, folder / "alone")[""]
    started = time.monotonic()
    tasks = _tasks(sizes.servers)
    cluster = _run(tasks, sizes, examples, folder / "cluster")
    seconds = time.monotonic() - started
    chief = cluster["chief"]
    if chief.status:
        raise cli.CommandError(f"the chief failed: {chief.said}")
    return {
        "ratios": {},
        "measurements": {
            "table_mb": round(size * _DIMENSIONS * 4 / 1e6),
            "table_and_slots_mb": round(2 * size * _DIMENSIONS * 4 / 1e6),
            "limit_of_each_process_mb": sizes.limit_mb,
            "alone": {"status": alone.status, "said": alone.said},
            "cluster": {
                "servers": sizes.servers,
                "seconds": round(seconds, 1),
                "peak_mb": {kind: ended.peak_mb for kind, ended in cluster.items()},
                "steps": (summary := json.loads(chief.out))["steps"],
                "metrics": summary["metrics"],
            },
        },
        "machine": described,
    }


def _prepare(sizes: Sizes, folder: Path) -> Path:
    """Examples of a catalogue of that many words, and of requests for its first items."""
    items, events = folder / "items.jsonl", folder / "events.jsonl"
    with items.open("w") as file:
        for item in range(sizes.words // _WORDS_PER_ITEM):
            first = item * _WORDS_PER_ITEM
            words = [f"p{number:x}" for number in range(first, first + _WORDS_PER_ITEM)]
            row = {"item_id": str(item), "title": " ".join(words)}
            file.write(json.dumps(row) + "\n")
    with events.open("w") as file:
        for request in range(sizes.requests):
            click = {
                "event": "click",
                "request_id": str(request),
                "timestamp": 1_700_000_000 + request,
                "query": f"p{request * _WORDS_PER_ITEM:x}",
                "item_id": str(request),
            }
            file.write(json.dumps(click) + "\n")
    config = {"min_count": 1, "max_vocabulary": 2 * sizes.words}
    (folder / "config.json").write_text(json.dumps(config))
    flags = ("--config", folder / "config.json", "--output", folder / "examples")
    sources = ("--events", events, "--items", items)
    steps.run("beam.preprocess", *sources, *flags, log=folder / "log")
    return folder / "examples"


def _tasks(servers: int) -> list[dict[str, Any]]:
    """A `TF_CONFIG` for each task, the chief's last."""
    names = [*(("ps", index) for index in range(servers)), ("worker", 0), ("chief", 0)]
    sockets = [socket.create_server(("localhost", 0)) for _ in names]
    cluster: dict[str, list[str]] = {}
    for (kind, _), listening in zip(names, sockets, strict=True):
        address = f"localhost:{listening.getsockname()[1]}"
        cluster.setdefault(kind, []).append(address)
        listening.close()
    return [
        {"cluster": cluster, "task": {"type": kind, "index": index}}
        for kind, index in names
    ]


def _run(
    configs: list[dict[str, Any]], sizes: Sizes, examples: Path, model_dir: Path
) -> dict[str, Ended]:
    """By kind of task, how the one ended that had the highest peak; "" is the kind of a process that is alone."""
    argv = [sys.executable, "-m", "tfrs_mmse.train", "--preset", "two_tower"]
    argv += ["--data", str(examples), "--model-dir", str(model_dir)]
    for setting in _SETTINGS:
        argv += ["--set", setting]
    with contextlib.ExitStack() as stack:
        running = []
        for config in configs:
            out = stack.enter_context(tempfile.TemporaryFile("w+"))
            err = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                argv,
                env=os.environ | ({"TF_CONFIG": json.dumps(config)} if config else {}),
                preexec_fn=lambda: _limit(sizes.limit_mb),
                stdout=out,
                stderr=err,
                cwd=steps.ROOT,
            )
            stack.callback(process.kill)
            running.append((process, out, err))
        # The chief is the last to be started; when it ends, so do the others.
        ended = [_wait(*one) for one in reversed(running)][::-1]
    found: dict[str, Ended] = {}
    for config, one in zip(configs, ended, strict=True):
        kind = config["task"]["type"] if config else ""
        if kind not in found or one.peak_mb > found[kind].peak_mb:
            found[kind] = one
    return found


def _limit(megabytes: int) -> None:
    """Of this process from now on; the stacks of its many threads count as data, so they are kept small."""
    for which, size in (
        (resource.RLIMIT_DATA, megabytes * 1_000_000),
        (resource.RLIMIT_STACK, 1 << 20),
    ):
        resource.setrlimit(which, (size, size))


def _wait(process: subprocess.Popen[bytes], out: IO[str], err: IO[str]) -> Ended:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    out.seek(0)
    err.seek(0)
    lines = [line for line in err.read().splitlines() if line]
    return Ended(
        process.returncode,
        out.read(),
        lines[-1] if lines else "",
        round(usage.ru_maxrss * 1024 / 1e6),
    )


if __name__ == "__main__":
    sys.exit(main())
