"""What a training step costs, and what it would cost at least.

    python -m benchmarks.train.cost --examples DIR [--preset mmse] [--steps 40] [--set key=value ...] [--floor]

`peak_memory_mb` is that of the process, `estimated_memory_mb` what a training would say of it before it starts, and
`check_seconds` what it takes to read all shards to their ends first. `floor` counts what a step cannot do without, as
means over some batches: the products of the similarity matrix and of the linear maps, forward and twice backward, at
the speed of TensorFlow's own matrix product here; the rows of the tables that are read, summed and updated, at the
speed of a plain sum; and the input, which runs on the same cores. Nothing that is done to a score, no sorting and no
unpacking of a batch is in it. `times_floor` is how far we are.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import machine
from benchmarks.train.ours import Training, start
from tfrs_mmse import cli, examples, resources, schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.presets import PRESETS
from tfrs_mmse.towers import fused_dim

_WARM_UP = 8  # steps: tracing, and buffers that fill
_SAMPLE = 8  # batches that are counted


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints one JSON document."""
    parser = cli.argument_parser("benchmarks.train.cost", __doc__)
    parser.add_argument("--examples", type=Path, required=True, metavar="DIR")
    parser.add_argument("--preset", choices=PRESETS, default="mmse", metavar="NAME")
    parser.add_argument("--steps", type=cli.positive_int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--floor", action="store_true", help="count the floor as well")
    args = parser.parse_args(argv)
    config = PRESETS[args.preset]().override([*args.set, "epochs=1000"])
    started = time.perf_counter()
    manifest = schema.Manifest.read(args.examples)
    used = examples.check(args.examples, manifest, config)
    check_seconds = time.perf_counter() - started
    training = start(args.examples, config)
    for _ in range(_WARM_UP):
        training.take()
    moments = [time.perf_counter()]
    for _ in range(args.steps):
        training.take()
        moments.append(time.perf_counter())
    milliseconds = np.diff(moments) * 1e3
    result: dict[str, Any] = {
        "preset": args.preset,
        "requests_per_step": config.batch_size,
        "milliseconds_per_step": round(float(np.mean(milliseconds)), 1),
        "median_milliseconds_per_step": round(float(np.median(milliseconds)), 1),
        "microseconds_per_request": round(
            float(np.mean(milliseconds)) / config.batch_size * 1e3, 1
        ),
        "peak_memory_mb": round(machine.peak_memory() / 1e6),
        "estimated_memory_mb": round(
            resources.memory(config, manifest, used.record_bytes).total / 1e6
        ),
        "check_seconds": round(check_seconds, 2),
        "table_mb": round(
            sum(math.prod(v.shape) for v in training.trained.model.variables) * 4 / 1e6
        ),
    }
    result |= _counted(training)
    if args.floor:
        result["floor"] = floor = _floor(training)
        result["times_floor"] = round(
            result["median_milliseconds_per_step"] / floor["milliseconds"], 2
        )
    cli.print_result(result)


def _counted(training: Training) -> dict[str, int]:
    """Means of some batches' sizes."""
    sizes = [
        {
            "queries": int(batch.requests.positive_key.nrows()),
            "slots": len(batch.slot),
            "candidates": len(batch.candidates.key),
            "query_tokens": _tokens(batch.requests.query_ids),
            "item_tokens": _tokens(batch.candidates.ids),
            "distinct_tokens": _distinct(batch),
        }
        for batch in training.batches.take(_SAMPLE)
    ]
    return {name: round(np.mean([s[name] for s in sizes])) for name in sizes[0]}


def _floor(training: Training) -> dict[str, float]:
    config, manifest = training.trained.config, training.trained.manifest
    counted = _counted(training)
    dim = config.embedding_dim
    grains = config.chosen_grains(manifest.features)
    text = sum(g.kind is schema.GrainKind.TEXT for g in grains)
    fused = fused_dim(grains, config)
    if config.fusion == "post":
        of_query = text * dim * dim + (len(grains) - text) * text * dim * (
            config.attribute_dim
        )
        of_item = text * dim * dim
    else:
        of_query, of_item = text * dim * fused, fused * fused
    products = (
        counted["queries"] * counted["candidates"] * fused
        + counted["queries"] * of_query
        + counted["candidates"] * of_item
    )
    operations = 2 * 3 * products
    rows = counted["query_tokens"] + counted["item_tokens"]
    # Read to be summed, forward and backward; the distinct ones gathered, and updated with their slots.
    moved = 4 * dim * (2 * rows + 7 * counted["distinct_tokens"])
    gflops = _product_speed(counted["queries"], counted["candidates"], fused)
    bandwidth = _sum_speed()
    dense, sparse = operations / gflops / 1e6, moved / bandwidth / 1e6
    read = _input_milliseconds(training)
    return {
        "gigaflop": round(operations / 1e9, 1),
        "gflops_of_matrix_product": round(gflops),
        "dense_milliseconds": round(dense, 1),
        "table_mb_moved": round(moved / 1e6),
        "gb_per_second_of_sum": round(bandwidth, 1),
        "sparse_milliseconds": round(sparse, 1),
        "input_milliseconds": round(read, 1),
        "milliseconds": round(dense + sparse + read, 1),
    }


def _tokens(ids: Any) -> int:
    return sum(len(i.flat_values) for i in ids.values() if hasattr(i, "flat_values"))


def _distinct(batch: Batch) -> int:
    query = batch.requests.query_ids
    return sum(
        len(
            np.unique(
                np.concatenate(
                    [ids.flat_values, batch.candidates.ids[name].flat_values]
                )
            )
        )
        for name, ids in query.items()
    )


def _product_speed(rows: int, columns: int, depth: int) -> float:
    """10**9 floating-point operations a second of a product of the step's size."""
    a, b = tf.random.normal([rows, depth]), tf.random.normal([columns, depth])
    seconds = _best(tf.function(lambda: tf.linalg.matmul(a, b, transpose_b=True)))
    return 2 * rows * columns * depth / seconds / 1e9


def _sum_speed() -> float:
    """10**9 bytes a second that all cores together read and sum."""
    block = tf.random.normal([4096, 4096])
    return 4 * 4096 * 4096 / _best(tf.function(lambda: tf.reduce_sum(block))) / 1e9


def _input_milliseconds(training: Training) -> float:
    """Of a step, when nobody else uses the cores."""
    iterator = iter(training.batches)
    skim = tf.function(lambda: next(iterator).candidates.key[0])
    for _ in range(_WARM_UP):
        skim()
    started = time.perf_counter()
    steps = 2 * training.steps_per_epoch
    for _ in range(steps):
        skim()
    return (time.perf_counter() - started) / steps * 1e3


def _best(work: Callable[[], tf.Tensor]) -> float:
    """Seconds."""
    times = []
    for _ in range(10):
        started = time.perf_counter()
        work().numpy()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
