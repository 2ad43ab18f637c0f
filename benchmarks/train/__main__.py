"""Training speed: this library, the TensorFlow Recommenders tutorial and PyTorch, side by side in one run.

    python -m benchmarks.train > benchmarks/results/train.json    # about 10 minutes on 2 cores
    python -m benchmarks.train --quick                            # about 6

The same two towers three times: word, bigram and character grains whose tokens are mean-pooled, attributes, one linear
map in each tower, unit vectors, in-batch softmax with a temperature, Adagrad, the same batch size, learning rate and
scale of the initial values, and the same pairs of a query and an item that was clicked or ordered for it.

- ours: preset `two_tower` (benchmarks/train/ours.py), from the TFRecords of `beam.preprocess`;
- tfrs: Keras `fit`, lookups inside the model, its tutorials' optimiser (tutorial.py), from TFRecords of raw text;
- torch: `EmbeddingBag` with sparse gradients (embedding_bag.py), from Parquet with token ids; needs PyTorch
  (`pip install tfrs-mmse[torch]`), and is left out where it is not there.

Each runs in a fresh process, in turns, from files and from memory. What an epoch takes is the median over all epochs of
all rounds but the first of each process, which traces and warms up. A ratio is their time over ours, from files;
"files vs memory" is our time from memory over our time from files, so 1 means that the input costs nothing. `recall` is
recall@100 of the held-out queries' clicked and ordered items after the same number of epochs from files.

`steps` gives what one step of this library costs for `two_tower` and for `mmse`, which does more for each request, and
the floor under it (cost.py). The data are the Elo7 logs if ELO7_DIR or --elo7 names them, else a simulated shop.
"""

import importlib.util
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine, steps
from benchmarks.quality import data_sets
from benchmarks.train import pairs
from benchmarks.train.layout import FILES, MEMORY, SOURCES
from benchmarks.train.recall import recall
from tfrs_mmse import cli
from tfrs_mmse.presets import two_tower

OURS, TFRS, TORCH = "ours", "tfrs", "torch"
_MODULES = {OURS: "ours", TFRS: "tutorial", TORCH: "embedding_bag"}
_PRESETS = ("two_tower", "mmse")
_LIBRARIES = ("numpy", "tensorflow", "tensorflow-recommenders")


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        epochs: Of each training.
        rounds: How often each system is trained from each source.
        requests: Of the simulated log, where there is no other.
        items: Of its catalogue.
        steps: Of the measurement of single steps.
    """

    epochs: int = 4
    rounds: int = 1
    requests: int = 30_000
    items: int = 20_000
    steps: int = 100


FULL = Sizes()
QUICK = Sizes(epochs=3, requests=10_000, items=8_000, steps=30)


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.train", __doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer epochs of fewer pairs"
    )
    parser.add_argument(
        "--elo7",
        type=Path,
        default=os.environ.get("ELO7_DIR"),
        metavar="DIR",
        help="folder of the Elo7 logs, or of examples made of them (ELO7_DIR)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where data are kept meanwhile"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        sizes = QUICK if args.quick else FULL
        cli.print_result(measure(sizes, args.elo7, Path(folder)))


def measure(sizes: Sizes, elo7: Path | None, folder: Path) -> dict[str, Any]:
    """Runs the benchmark; the contract of what it returns is that of all benchmarks.

    Args:
        sizes: How much.
        elo7: Folder of the Elo7 logs, or None for a simulated shop.
        folder: Where data may stand meanwhile.
    """
    systems = [OURS, TFRS]
    if importlib.util.find_spec("torch"):
        systems.append(TORCH)
    else:
        cli.say("torch is left out: PyTorch is not installed")
    torch = [name for name in systems if name == TORCH]
    described = machine.describe([*_LIBRARIES, *torch])  # before we put load on it
    data = data_sets.prepare(
        "simulator" if elo7 is None else "elo7",
        "query",
        data_sets.Sources(elo7 or folder, sizes.requests, sizes.items),
        folder,
    )
    shared = pairs.write(
        data.examples,
        folder / "pairs",
        two_tower().override([f"epochs={sizes.epochs}"]),
    )
    epochs: dict[tuple[str, str], list[float]] = {}
    for _ in range(sizes.rounds):
        for source, system in itertools.product(SOURCES, systems):
            seconds = _train(system, source, folder)
            cli.say(f"{system} from {source}: {seconds} seconds")
            epochs.setdefault((system, source), []).extend(seconds[1:])
    median = {key: statistics.median(seconds) for key, seconds in epochs.items()}
    ours = median[OURS, FILES]
    return {
        "ratios": {
            **{f"vs {s}": round(median[s, FILES] / ours, 2) for s in systems[1:]},
            "files vs memory": round(median[OURS, MEMORY] / ours, 2),
        },
        "measurements": {
            "data": data.name,
            "pairs": shared.num_pairs,
            "epochs": sizes.epochs,
            "batch_size": shared.batch_size,
            "pairs_per_second": {
                system: {
                    source: round(shared.num_pairs / median[system, source])
                    for source in SOURCES
                }
                for system in systems
            },
            "recall@100": {
                system: recall(folder / "pairs", _vectors(folder, system))
                for system in systems
            },
            "steps": {
                preset: steps.run(
                    "benchmarks.train.cost",
                    *("--examples", data.examples, "--preset", preset),
                    *("--steps", sizes.steps, "--floor"),
                    log=folder / "cost.log",
                )
                for preset in _PRESETS
            },
        },
        "machine": described,
    }


def _train(system: str, source: str, folder: Path) -> list[float]:
    """Seconds of each epoch."""
    # The vectors of the last round from files are those whose recall is measured.
    output = _vectors(folder, system) if source == FILES else folder / "unused"
    result = steps.run(
        f"benchmarks.train.{_MODULES[system]}",
        *("--pairs", folder / "pairs", "--source", source, "--output", output),
        log=folder / f"{system}.log",
    )
    return result["seconds"]


def _vectors(folder: Path, system: str) -> Path:
    return folder / f"{system}-vectors"


if __name__ == "__main__":
    sys.exit(main())
