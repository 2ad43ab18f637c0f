"""Whether training costs grow linearly: the time and memory of a step, by the size of the log and of the catalogue.

    python -m benchmarks.train.scaling > benchmarks/results/train_scaling.json    # 17 minutes on 2 cores
    python -m benchmarks.train.scaling --quick                                    # some minutes

The full run also draws benchmarks/results/train_scaling.svg. Logs of `beam.simulate`, through `beam.preprocess`;
each size is trained with preset `mmse` for a number of steps in a fresh process. Only one of log and catalogue grows
at a time. Memory is the process's peak; the tables, which grow with the vocabularies and so with the catalogue, are
given beside it. So are the tokens of a batch's items: among more items, fewer of a batch's are the same one.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks import machine, steps
from tfrs_mmse import cli

_SETTINGS = ("embedding_dim=64", "batch_size=256", "synthetic_queries=128")
_PLOT = Path(__file__).resolve().parents[1] / "results" / "train_scaling.svg"


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        requests: Of the logs, ascending.
        items: Of the catalogues, ascending; the first goes with each log, and the first log with each of them.
        steps: That each is trained for.
    """

    requests: tuple[int, ...] = (30_000, 120_000, 480_000)
    items: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    steps: int = 300


FULL = Sizes()
QUICK = Sizes(requests=(4_000, 16_000), items=(2_000, 20_000), steps=60)


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.train.scaling", __doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, no plot")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where data are kept meanwhile"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        result = measure(QUICK if args.quick else FULL, Path(folder))
    if not args.quick:
        _plot(result["measurements"]).savefig(_PLOT)
    cli.print_result(result)


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Runs the benchmark; the contract of what it returns is that of all benchmarks."""
    described = machine.describe()
    requests, items = sizes.requests[0], sizes.items[0]
    cells = [(r, items) for r in sizes.requests]
    cells += [(requests, i) for i in sizes.items[1:]]
    measured = {cell: _cost(*cell, sizes.steps, folder) for cell in cells}

    def grows(last: tuple[int, int], name: str) -> float:
        return round(measured[last][name] / measured[cells[0]][name], 2)

    log, catalogue = (sizes.requests[-1], items), (requests, sizes.items[-1])
    names = ("microseconds_per_request", "item_tokens", "peak_memory_mb")
    return {
        "ratios": {
            f"{name} of {what}": grows(last, name)
            for what, last in (("log", log), ("catalogue", catalogue))
            for name in names
        },
        "measurements": [
            {"requests": r, "items": i, **cost} for (r, i), cost in measured.items()
        ],
        "machine": described,
    }


def _cost(requests: int, items: int, num_steps: int, folder: Path) -> dict[str, Any]:
    data = folder / f"{requests}-{items}"
    log = folder / "log"
    size = ("--requests", requests, "--items", items)
    steps.run("beam.simulate", *size, "--output", data, log=log)
    steps.run(
        "beam.preprocess",
        *("--events", data / "events.jsonl.gz", "--items", data / "items.jsonl.gz"),
        *("--output", data / "examples"),
        log=log,
    )
    settings = [flag for setting in _SETTINGS for flag in ("--set", setting)]
    cost = steps.run(
        "benchmarks.train.cost",
        *("--examples", data / "examples", "--steps", num_steps, *settings),
        log=log,
    )
    cli.say(f"{requests} requests, {items} items: {cost}")
    return cost


def _plot(rows: list[dict[str, Any]]) -> Figure:
    """Time above, memory below; over the size of the log on the left, over that of the catalogue on the right."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    smallest = rows[0]
    for (above, below), name, other in zip(
        axes.T, ("requests", "items"), ("items", "requests"), strict=True
    ):
        line = [row for row in rows if row[other] == smallest[other]]
        x = [row[name] for row in line]
        above.plot(x, [r["microseconds_per_request"] for r in line], "o-")
        per_token = [
            1e6 * r["milliseconds_per_step"] / (r["item_tokens"] + r["query_tokens"])
            for r in line
        ]
        above.plot(x, per_token, "s--")
        below.plot(x, [r["peak_memory_mb"] for r in line], "o-")
        below.plot(x, [2 * r["table_mb"] for r in line], "s--")
        below.set(xscale="log", xlabel=f"{name} ({smallest[other]:,} {other})")
        below.set_xticks(x, [f"{size:,}" for size in x])
        below.minorticks_off()
    top = max(row["microseconds_per_request"] for row in rows)
    axes[0, 0].set(ylabel="time of a step", ylim=(0, 1.15 * top))
    axes[0, 0].legend(["µs per request", "ns per token"], loc="lower left")
    top = max(row["peak_memory_mb"] for row in rows)
    axes[1, 0].set(ylabel="memory, MB", ylim=(0, 1.15 * top))
    axes[1, 0].legend(["peak of the process", "tables and their slots"], loc="center")
    return figure


if __name__ == "__main__":
    sys.exit(main())
