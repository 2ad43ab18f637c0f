"""What a GPU gains: a training step on the CPU, on the GPU, and there with half-precision products, side by side.

    python -m benchmarks.train.devices --examples DIR [--preset mmse] [--steps 100] [--set key=value ...]

Each in a fresh process, by benchmarks.train.cost; a ratio is the CPU's median step over the other's. Without a GPU
there is nothing to compare, and that is said.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from benchmarks import machine, steps
from tfrs_mmse import cli
from tfrs_mmse.config import FLOAT32, MIXED
from tfrs_mmse.presets import PRESETS

_HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}  # from TensorFlow, which then uses the CPU
_CPU = "cpu"
_CASES = {
    _CPU: (FLOAT32, _HIDDEN),
    "gpu": (FLOAT32, {}),
    "gpu, mixed precision": (MIXED, {}),
}


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.train.devices", __doc__)
    parser.add_argument("--examples", type=Path, required=True, metavar="DIR")
    parser.add_argument("--preset", choices=PRESETS, default="mmse", metavar="NAME")
    parser.add_argument("--steps", type=cli.positive_int, default=100)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise cli.CommandError(
            "TensorFlow finds no GPU to compare with the CPU: run this where there is one, with "
            "`pip install tensorflow[and-cuda]`"
        )
    described = machine.describe(["tensorflow"])
    flags: list[object] = ["--examples", args.examples, "--preset", args.preset]
    flags += ["--steps", args.steps]
    for setting in args.set:
        flags += ["--set", setting]
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            name: steps.run(
                "benchmarks.train.cost",
                *flags,
                *("--set", f"precision={precision}"),
                log=Path(folder) / "log",
                environment=environment,
            )
            for name, (precision, environment) in _CASES.items()
        }
    median = {
        name: cost["median_milliseconds_per_step"] for name, cost in measured.items()
    }
    details = tf.config.experimental.get_device_details(gpus[0])
    cli.print_result(
        {
            "ratios": {
                name: round(median[_CPU] / milliseconds, 2)
                for name, milliseconds in median.items()
                if name != _CPU
            },
            "measurements": measured,
            "machine": {**described, "gpu": details.get("device_name")},
        }
    )


if __name__ == "__main__":
    sys.exit(main())
