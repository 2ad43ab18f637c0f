"""The whole path on a simulated shop: raw logs, examples, two models, evaluation, export, server, answers.

    python -m benchmarks.demo --output demo

Runs the commands that a user would type, prints each before it starts, and ends with the evaluation table, the
answers to five queries and what to run next. It picks a free port and leaves nothing running.
"""

import collections
import contextlib
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfrs_mmse import cli

READY = re.compile(r"version \d+ on (\S+)$")  # what the server says once it answers


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs every step, then prints tables for a person and a summary for a program."""
    parser = cli.argument_parser("benchmarks.demo", __doc__)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory for everything that the demo makes",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=30_000,
        help="simulated searches (default: %(default)s)",
    )
    parser.add_argument(
        "--items",
        type=int,
        default=8_000,
        help="simulated catalogue (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=8,
        help="passes over the training requests (default: %(default)s)",
    )
    parser.add_argument(
        "--index",
        choices=("scann", "exact"),
        default="scann",
        help="default: %(default)s",
    )
    args = parser.parse_args(argv)
    started = time.monotonic()
    out = args.output
    logs, examples, models = out / "logs", out / "examples", out / "models" / "mmse"
    runs = {preset: out / "runs" / preset for preset in ("two_tower", "mmse")}

    run(
        "beam.simulate",
        "--output",
        logs,
        "--requests",
        args.requests,
        "--items",
        args.items,
    )
    items = next(logs.glob("items.*"))
    run(
        "beam.preprocess",
        "--events",
        logs / "events.*",
        "--items",
        items,
        "--output",
        examples,
    )
    systems: dict[str, Any] = {}
    for preset, model_dir in runs.items():
        settings = ["--preset", preset, "--set", f"epochs={args.epochs}"]
        run("tfrs_mmse.train", "--data", examples, "--model-dir", model_dir, *settings)
        # BM25 does not depend on the model: once is enough.
        skip = ["--no-bm25"] if "bm25" in systems else []
        report = run(
            "tfrs_mmse.evaluate", "--data", examples, "--model-dir", model_dir, *skip
        )
        systems |= report["systems"]
    data_and_model = ["--data", examples, "--model-dir", runs["mmse"]]
    exported = run(
        "serving.export", *data_and_model, "--output", models, "--index", args.index
    )

    queries = five_queries(next(logs.glob("events.*")))
    with serving(models, "mmse") as target:
        asked = [flag for query in queries for flag in ("--query", query)]
        run(
            "serving.client",
            "--target",
            target,
            "--model",
            "mmse",
            "--k",
            5,
            "--items",
            items,
            *asked,
            parse=False,
        )

    cli.say(f"\n{table(systems, report['num_queries'])}")
    cli.say(
        f"\nEverything is in {out}/: logs, examples, runs, models. Next:\n"
        f"  {command('serving.server', '--model_base_path', models, '--model_name', 'mmse', '--port', 8500)}\n"
        f"  {command('serving.client', '--target', '127.0.0.1:8500', '--model', 'mmse', '--query', queries[0])}\n"
        f"  {command('tfrs_mmse.train', '--data', examples, '--model-dir', out / 'runs/other', '--set', 'epochs=12')}"
    )
    seconds = round(time.monotonic() - started, 1)
    cli.print_result(
        {"output": str(out), "seconds": seconds, "export": exported, "systems": systems}
    )


def command(module: str, *args: object) -> str:
    """The command line that a user would type."""
    python = os.path.relpath(sys.executable)
    if python.startswith(
        ".."
    ):  # not the project's own environment: the one that is active
        python = "python"
    return shlex.join([python, "-m", module, *map(str, args)])


def run(module: str, *args: object, parse: bool = True) -> Any:
    """Runs one of our commands; its progress passes through.

    Returns:
        Its JSON result, if `parse`; otherwise its output passes through too.
    """
    cli.say(f"\n$ {command(module, *args)}")
    argv = [sys.executable, "-m", module, *map(str, args)]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE if parse else sys.stderr, text=True
    )
    if done.returncode:
        raise cli.CommandError(
            f"the step above failed with exit status {done.returncode}; its message says why"
        )
    return json.loads(done.stdout) if parse else None


@contextlib.contextmanager
def serving(models: Path, name: str) -> Iterator[str]:
    """A server on a free port, as HOST:PORT; stopped at the end, whatever happens."""
    args = [
        "--model_base_path",
        models,
        "--model_name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        0,
    ]
    cli.say(f"\n$ {command('serving.server', *args)}")
    argv = [sys.executable, "-m", "serving.server", *map(str, args)]
    with subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                sys.stderr.write(line)
                if ready := READY.search(line):
                    break
            else:
                raise cli.CommandError(
                    "the server ended before it was ready; its message is above"
                )
            # Somebody must go on reading, or the server would one day wait for us.
            threading.Thread(
                target=sys.stderr.writelines, args=[server.stderr], daemon=True
            ).start()
            yield ready[1]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def five_queries(events: Path) -> list[str]:
    """Five different queries that were asked in the log: from the most frequent to the rare."""
    asked: collections.Counter[str] = collections.Counter()
    with gzip.open(events, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["event"] == "impression" and row["position"] == 0:
                asked[row["query"]] += 1
    queries = [query for query, _ in asked.most_common()]
    return [
        queries[round(rank * (len(queries) - 1))] for rank in (0.0, 0.02, 0.1, 0.3, 0.6)
    ]


def table(systems: dict[str, Any], num_queries: int) -> str:
    """The evaluation for a person: a row a system."""
    columns = [
        ("ordered", "recall@10"),
        ("ordered", "recall@100"),
        ("clicked", "recall@10"),
        ("clicked", "recall@100"),
        ("all", "ndcg@10"),
    ]
    lines = [
        f"{'':>12}" + "".join(f"{f'{level} {metric}':>22}" for level, metric in columns)
    ]
    for name in ("bm25", "two_tower", "mmse"):
        values = "".join(
            f"{systems[name][level][metric]:>22.4f}" for level, metric in columns
        )
        lines.append(f"{name:>12}{values}")
    return "\n".join(
        [
            f"Held-out requests of the last part of the period, {num_queries} distinct queries:",
            *lines,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
