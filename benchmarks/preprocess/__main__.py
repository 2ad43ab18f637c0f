"""Preprocessing: ours, the same pipeline element by element, and a Polars program, side by side in one run.

    python -m benchmarks.preprocess > benchmarks/results/preprocess.json    # half an hour on 2 cores, 16 GB of memory
    python -m benchmarks.preprocess --quick                                 # some minutes

The input is the log of `beam.simulate`: at 1x 30,000 requests, which are 760,000 events, on 7,500 items; at 4x and
16x so many times as many requests and items. Every program reads the same plain JSONL files (benchmarks/preprocess/
logs.py says why), runs in fresh processes, one after the other, and is timed from its start to its end.

- ours: `python -m beam.preprocess` on Beam's local runner, with 1 worker, which is in the process of the runner, and
  with 2 worker processes;
- element-wise: `python -m benchmarks.preprocess.element_wise`, the same pipeline with one Python object an element, on
  the same runner with the same workers. It writes the same records. It is measured at the sizes whose elements fit into
  the memory of the runner, which keeps there what it shuffles; with 2 worker processes only at the smallest, because
  with some millions of elements that runner lost rows again and again (ours would notice: it counts what is sent and
  what arrives);
- Polars: `python -m benchmarks.preprocess.with_polars`, one process with a thread on each core. It makes the same
  levels and joins and writes Parquet; it does not tokenise and writes no TFRecords, so it does a good deal less.

They must agree about the number of requests, queries and items of each level in each split. A run that fails or does
not agree is listed under `failed` and done again, and the benchmark fails with the third one.

A ratio is their wall time over ours at the largest size that both were measured at, with the workers that its name
says. Starting Python, TensorFlow and the workers takes 10 to 20 seconds, which weigh on small sizes; so
`events_per_second_of_growth` is given as well: the events that the largest size has more than the smallest one, over
the seconds that it takes longer.

Memory is the peak of each process (VmHWM, so pages that processes share count in each): that of the largest worker and
that of the driver, which is the only process with 1 worker. `memory_of_largest_over_smallest_size` says by which
factor each grew.
"""

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.preprocess import logs
from benchmarks.preprocess.measure import Cost, run
from tfrs_mmse import cli

_LIBRARIES = ("apache-beam", "polars", "pyarrow", "orjson", "tensorflow")
_ELEMENT_WISE, _POLARS = "element-wise", "polars"
_ATTEMPTS = 3  # element-wise with worker processes has been seen to lose rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        num_requests: Of the log at 1x.
        num_items: Of the catalogue at 1x.
        scales: The sizes, ascending: so many times as much.
        element_wise_scales: Those of them at which the element-wise pipeline is measured with one worker.
        workers: Numbers of workers.
    """

    num_requests: int = 30_000
    num_items: int = 7_500
    scales: tuple[int, ...] = (1, 4, 16)
    element_wise_scales: tuple[int, ...] = (1, 4)
    workers: tuple[int, ...] = (1, 2)


FULL = Sizes()
QUICK = Sizes(num_requests=8000, num_items=2000, scales=(1, 4))


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.preprocess", __doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the log, at 1x and 4x"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="where logs and records are kept while they are needed (the system's place for temporary files)",
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        cli.print_result(measure(QUICK if args.quick else FULL, Path(folder)))


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Runs the benchmark; the contract of what it returns is that of all benchmarks.

    Args:
        sizes: How much.
        folder: Where logs and records may stand meanwhile.

    Raises:
        CommandError: a program failed, or two of them do not agree about what is in the log.
    """
    described = machine.describe(_LIBRARIES)  # before we put load on it
    inputs: dict[int, logs.Log] = {}
    costs: dict[str, dict[int, Cost]] = {}
    failed: list[str] = []
    for scale in sizes.scales:
        log = logs.simulate(
            folder / "log",
            num_requests=scale * sizes.num_requests,
            num_items=scale * sizes.num_items,
        )
        inputs[scale] = log
        splits: dict[str, Any] = {}
        for name, module, flags in _programs(sizes, scale):
            cost, splits[name] = _run(
                module,
                *("--events", log.events, "--items", log.items, *flags),
                output=folder / "output",
                expected=splits.get(_POLARS),
                failed=failed,
            )
            cli.say(f"{scale}x, {log.num_events} events, {name}: {cost._asdict()}")
            costs.setdefault(name, {})[scale] = cost
        shutil.rmtree(folder / "log")
    return {
        "ratios": _ratios(sizes, costs),
        "measurements": {
            "input": {f"{scale}x": _shown(log) for scale, log in inputs.items()},
            **{name: _rows(of_program, inputs) for name, of_program in costs.items()},
            "failed": failed,
        },
        "machine": described,
    }


def _run(
    module: str, *args: object, output: Path, expected: Any, failed: list[str]
) -> tuple[Cost, Any]:
    """Runs a program until it says that the splits hold what is expected, and adds to the list of what went wrong."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            cost, result = run(module, *args, "--output", output)
            check_equal(result["splits"], expected or result["splits"])
            return cost, result["splits"]
        except cli.CommandError as e:
            if not left:
                raise
            reason = str(e).strip().splitlines()[-1]
            failed.append(f"{module}: {reason}")
            cli.say(f"to be run again: {e}")
        finally:
            shutil.rmtree(output, ignore_errors=True)
    raise AssertionError("the last attempt returns or raises")


def _programs(sizes: Sizes, scale: int) -> list[tuple[str, str, list[str]]]:
    """What is run at a size: name, module and flags."""
    programs: list[tuple[str, str, list[str]]] = [
        (_POLARS, "benchmarks.preprocess.with_polars", [])
    ]
    for num_workers in sizes.workers:
        mode = "in_memory" if num_workers == 1 else "multi_processing"
        flags = [f"--direct_num_workers={num_workers}", f"--direct_running_mode={mode}"]
        programs.append((_named("ours", num_workers), "beam.preprocess", flags))
        scales = sizes.element_wise_scales if num_workers == 1 else sizes.scales[:1]
        if scale in scales:
            name = _named(_ELEMENT_WISE, num_workers)
            programs.append((name, "benchmarks.preprocess.element_wise", flags))
    return programs


def _named(program: str, num_workers: int) -> str:
    return f"{program}, {num_workers} worker{'s' if num_workers > 1 else ''}"


def check_equal(found: Any, expected: Any) -> None:
    """Fails when two programs do not agree about what is in the splits: split -> numbers.

    Raises:
        CommandError: they differ.
    """
    if found != expected:
        raise cli.CommandError(
            f"the splits must hold what {_POLARS} finds, {expected}, got {found}: do not trust either's speed"
        )


def _ratios(sizes: Sizes, costs: dict[str, dict[int, Cost]]) -> dict[str, float]:
    """Their wall time over ours: above 1 we are faster."""
    ratios = {}
    for num_workers in sizes.workers:
        ours = costs[_named("ours", num_workers)]
        for name, theirs in (
            (_ELEMENT_WISE, costs.get(_named(_ELEMENT_WISE, num_workers), {})),
            (_POLARS, costs[_POLARS]),
        ):
            if theirs:
                scale = max(theirs)
                ratio = theirs[scale].seconds / ours[scale].seconds
                ratios[f"vs {_named(name, num_workers)}, {scale}x"] = round(ratio, 2)
    return ratios


def _shown(log: logs.Log) -> dict[str, int]:
    return {
        "events": log.num_events,
        "items": log.num_items,
        "megabytes": round(log.num_bytes / 1e6),
    }


def _rows(costs: dict[int, Cost], inputs: dict[int, logs.Log]) -> dict[str, Any]:
    rows: dict[str, Any] = {
        f"{scale}x": {
            "events_per_second": round(inputs[scale].num_events / cost.seconds),
            **cost._asdict(),
        }
        for scale, cost in costs.items()
    }
    first, last = min(costs), max(costs)
    if first < last:
        more = inputs[last].num_events - inputs[first].num_events
        longer = costs[last].seconds - costs[first].seconds
        rows["events_per_second_of_growth"] = round(more / max(longer, 0.01))
        rows["memory_of_largest_over_smallest_size"] = {
            "driver": round(costs[last].driver_mb / costs[first].driver_mb, 2)
        }
        if costs[first].worker_mb:
            rows["memory_of_largest_over_smallest_size"]["worker"] = round(
                costs[last].worker_mb / costs[first].worker_mb, 2
            )
    return rows


if __name__ == "__main__":
    sys.exit(main())
