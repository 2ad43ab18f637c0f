"""How well each system retrieves, on each data set, over several seeds, and which differences are significant.

    python -m benchmarks.quality
    python -m benchmarks.quality --data elo7 --systems mmse two_tower bm25 --seeds 0 1 2
    python -m benchmarks.quality --quick

Trains and evaluates every preset with every seed on every data set, through the commands `tfrs_mmse.train` and
`tfrs_mmse.evaluate`, and writes OUTPUT/quality.json, OUTPUT/quality.md and the figures of every query behind them,
OUTPUT/figures/DATA-SPLIT.parquet (benchmarks/quality/figures.py). The rows of quality.json are

    {"data": "elo7", "split": "query", "system": "mmse", "level": "clicked", "metric": "recall@10", "mean": 0.55,
     "std": 0.003, "seeds": [0, 1, 2], "better_than": ["bm25", "two_tower"]}

`data` is elo7 or simulator; `split` says what is held out: the last part of the period (time), or queries that training
never saw (query). `level` is clicked, ordered or all (NDCG with levels as gains). utility_ndcg@10 judges by the
simulator's true probabilities of an order (benchmarks/quality/utility.py). `better_than`: see
benchmarks/quality/pairwise.py.

What is finished is not made again: the same command goes on where it stopped, and one with other systems, data or
seeds adds to the table, also where only OUTPUT is at hand. Every cell DATA-SPLIT/SYSTEM-SEED/ in --work holds its
logs, its evaluation, and test.run, test.qrels and (one of each data set at least) test.bm25.run for other scorers:
about 60 MB each. A cell of another config or other data is refused there, or made again with --redo; code that changed
is not noticed: remove that folder and the figures then. A cell that fails is named at the end (exit status 1), the
others are made all the same. --jobs 2 makes two cells at a time, for those to whom the table matters more than the time
of one training in it.

--quick takes a small simulated shop, two systems and two seeds: some minutes, for trying the program out. --set
changes presets for a trial (give another --work and --output): epochs=1 for all, or mmse:epochs=1 for one.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.quality import cells, data_sets
from benchmarks.quality.cells import BM25, Cell
from benchmarks.quality.data_sets import SPLITS, Sources
from benchmarks.steps import ROOT
from tfrs_mmse import cli
from tfrs_mmse.presets import PRESETS

SYSTEMS = (BM25, *PRESETS)
ELO7 = Path(os.environ.get("ELO7_DIR", ROOT.parent / "shared/data/elo7"))
WORK = ROOT / "benchmarks/work"
FULL = {
    "data": list(SPLITS),
    "systems": list(SYSTEMS),
    "seeds": [0, 1, 2],
    "requests": 30_000,
    "items": 8_000,
    "work": WORK / "quality",
    "output": ROOT / "benchmarks/results",
}
QUICK = {
    "data": ["simulator"],
    "systems": [BM25, "two_tower", "mmse"],
    "seeds": [0, 1],
    "requests": 4_000,
    "items": 2_000,
    "work": WORK / "quality-quick",
    "output": WORK / "quality-quick",
}


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Makes what is missing, writes the two files and prints a summary."""
    started = time.monotonic()
    args = parse(argv)
    presets = [name for name in PRESETS if name in args.systems]
    if not presets:
        raise cli.CommandError(
            f"--systems names only {BM25}, which is evaluated beside trained systems anyway: name one of those"
        )
    settings = {name: settings_of(name, args.set) for name in presets}
    prepared = data_sets.prepare_all(
        [(d, s) for d in args.data for s in SPLITS[d] if s in args.splits],
        Sources(args.elo7.resolve(), args.requests, args.items),
        args.work.resolve(),
    )
    failed, output = prepared.failed, args.output.resolve()
    wanted = {
        data_set: [
            Cell(data_set, system, seed, settings[system])
            for seed in args.seeds
            for system in presets
        ]
        for data_set in prepared.data_sets
    }
    for of_data_set in wanted.values():  # all of them before the long work
        for cell in of_data_set:
            cells.check(cell, redo=args.redo)

    # Imports TensorFlow and ranx, which --help need not wait for.
    from benchmarks.quality import keeping, markdown, results

    num_made, rows = 0, []
    for data_set, of_data_set in wanted.items():
        missing = [
            cell
            for cell in keeping.without_kept(output, data_set, of_data_set)
            if not cells.is_finished(cell)
        ]
        broken = cells.make_all(missing, args.jobs, keep_models=args.keep_models)
        num_made += len(missing) - len(broken)
        failed |= broken
        finished = cells.finished_cells(data_set, SYSTEMS)
        if new := keeping.without_kept(output, data_set, finished):
            keeping.add(output, new)
        rows = results.write(output, SYSTEMS)
    if rows:
        cli.say(f"written: {output / results.MARKDOWN} and {output / results.JSON}")
    cli.print_result(
        {
            "ratios": markdown.ratios(rows),
            "measurements": {
                "rows": len(rows),
                "cells_made": num_made,
                "failed": failed,
                "left_out": prepared.left_out,
                "seconds": round(time.monotonic() - started, 1),
                "output": str(output),
            },
            "machine": machine.describe(),
        }
    )
    if failed:
        raise cli.CommandError(
            f"{len(failed)} failed and are not in the table ({', '.join(failed)}); the same command tries "
            "them again"
        )
    if not rows:
        raise cli.CommandError("nothing could be made: no data set is here")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; what is not given is that of the quick or of the full table."""
    parser = cli.argument_parser("benchmarks.quality", __doc__)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="for the two files (benchmarks/results; that of --work with --quick)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="for everything else (benchmarks/work/quality, or quality-quick)",
    )
    parser.add_argument(
        "--data", nargs="+", choices=SPLITS, help="data sets (default: all)"
    )
    splits = sorted(set().union(*SPLITS.values()))
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=splits,
        default=splits,
        help="what is held out (default: all)",
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        metavar="NAME",
        help=f"default: all of {', '.join(SYSTEMS)}",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N", help="of training (0 1 2)"
    )
    parser.add_argument(
        "--elo7",
        type=Path,
        default=ELO7,
        metavar="DIR",
        help="the Elo7 logs, or examples made of them (ELO7_DIR)",
    )
    parser.add_argument(
        "--requests", type=cli.positive_int, metavar="N", help="simulated (30000)"
    )
    parser.add_argument(
        "--items", type=cli.positive_int, metavar="N", help="simulated (8000)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[SYSTEM:]KEY=VALUE",
        help="one config field of all systems or of one; repeatable",
    )
    parser.add_argument(
        "--redo", action="store_true", help="make cells of another config again"
    )
    parser.add_argument(
        "--keep-models", action="store_true", help="keep finished cells' checkpoints"
    )
    parser.add_argument(
        "--jobs", type=cli.positive_int, default=1, metavar="N", help="at a time (1)"
    )
    parser.add_argument("--quick", action="store_true", help="a small table")
    args = parser.parse_args(argv)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def settings_of(system: str, settings: Sequence[str]) -> tuple[str, ...]:
    """Those settings that are for all systems or for this one, as `key=value`.

    Raises:
        CommandError: one is for a system that does not exist, or sets the seed.
    """
    chosen = []
    for setting in settings:
        target, colon, rest = setting.partition(":")
        is_named = bool(colon) and "=" not in target
        if is_named and target not in PRESETS:
            raise cli.CommandError(
                f"--set {setting}: no such system; known are {', '.join(PRESETS)}"
            )
        value = rest if is_named else setting
        if value.partition("=")[0] == "seed":
            raise cli.CommandError(f"--set {setting}: give seeds by --seeds")
        if not is_named or target == system:
            chosen.append(value)
    return tuple(chosen)


if __name__ == "__main__":
    sys.exit(main())
