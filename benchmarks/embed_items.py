"""How long a catalogue of a million items takes from its rows to Parquet shards of vectors, by `beam.embed_items`.

    python -m benchmarks.embed_items           # 5 GB of temporary disk
    python -m benchmarks.embed_items --quick   # 100,000 items

Simulates a shop and trains on it for one epoch with the default settings (three text grains of 256 dimensions and four
attributes of 32: 896 dimensions), simulates a catalogue of another seed, and runs the command on that as a user would:
reading, judging and deduplicating rows, folding, tokenising, looking up ids, the item tower, writing. Its start and
that of its workers are in the time; simulation and training are not. The ratio "vs 10 minutes" is what a million items
may take, over what they took or would have taken at the same rate: above 1 is faster.
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from tfrs_mmse import cli

_LIBRARIES = ("apache-beam", "polars", "pyarrow", "tensorflow")
_SECONDS_FOR_A_MILLION = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        num_items: Of the catalogue that is embedded.
        shop_items: Of the shop that the model is trained on.
        shop_requests: Of its log.
        settings: Of the training, as for `--set`, besides one epoch.
    """

    num_items: int = 1_000_000
    shop_items: int = 20_000
    shop_requests: int = 5_000
    settings: tuple[str, ...] = ()


FULL = Sizes()
QUICK = Sizes(num_items=100_000)


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.embed_items", __doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 items")
    args = parser.parse_args(argv)
    cli.print_result(measure(QUICK if args.quick else FULL))


def measure(sizes: Sizes) -> dict[str, Any]:
    """Runs the benchmark; the contract of what it returns is that of all benchmarks."""
    described = machine.describe(_LIBRARIES)  # before we put load on it
    with tempfile.TemporaryDirectory() as folder:
        model_dir, items = _prepare(Path(folder), sizes)
        output = Path(folder, "embeddings")
        flags = ["--model-dir", str(model_dir), "--items", str(items)]
        cpu, started = os.times(), time.perf_counter()
        summary = _run("beam.embed_items", *flags, "--output", str(output))
        seconds, after = time.perf_counter() - started, os.times()
        written = sum(path.stat().st_size for path in output.iterdir())
    if summary["num_items"] != sizes.num_items:
        raise cli.CommandError(
            f"expected {sizes.num_items} embeddings, got {summary['num_items']}: do not trust the speed"
        )
    cpu_seconds = sum(
        getattr(after, name) - getattr(cpu, name)
        for name in ("children_user", "children_system")
    )
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    per_million = seconds * 1_000_000 / sizes.num_items
    return {
        "ratios": {"vs 10 minutes": round(_SECONDS_FOR_A_MILLION / per_million, 2)},
        "measurements": {
            "items": sizes.num_items,
            "dimensions": summary["dimensions"],
            "shards": summary["num_shards"],
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "items_per_second": round(sizes.num_items / seconds),
            "written_gb": round(written / 1e9, 3),
            "largest_process_gb": round(largest / 1e9, 2),
        },
        "machine": described,
    }


def _prepare(folder: Path, sizes: Sizes) -> tuple[Path, Path]:
    """A trained model and the catalogue to embed."""
    shop, examples, model_dir = folder / "shop", folder / "examples", folder / "run"
    _simulate(shop, sizes.shop_requests, sizes.shop_items, seed=0)
    logs = ["--events", f"{shop}/events.*", "--items", f"{shop}/items.*"]
    _run("beam.preprocess", *logs, "--output", str(examples))
    settings = [
        flag for value in ("epochs=1", *sizes.settings) for flag in ("--set", value)
    ]
    data = ["--data", str(examples), "--model-dir", str(model_dir)]
    _run("tfrs_mmse.train", *data, *settings)
    _simulate(folder / "catalogue", 1, sizes.num_items, seed=1)
    return model_dir, next((folder / "catalogue").glob("items.*"))


def _simulate(output: Path, num_requests: int, num_items: int, *, seed: int) -> None:
    sizes = {"--requests": num_requests, "--items": num_items, "--seed": seed}
    flags = [word for flag, size in sizes.items() for word in (flag, str(size))]
    _run("beam.simulate", "--output", str(output), *flags)


def _run(module: str, *flags: str) -> dict[str, Any]:
    """Runs one of our commands in a process of its own; its progress passes through.

    Returns:
        Its result.
    """
    argv = [sys.executable, "-m", module, *flags]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise cli.CommandError(
            f"{module} failed with exit status {done.returncode}; its message above says why"
        )
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
