"""The parts of a training step that were written out by hand, beside what TensorFlow offers for the same.

    python -m benchmarks.train.alternatives    # a minute

On random values of the sizes that a default step has on the Elo7 logs: 1,536 queries, 2,000 candidates, vectors of 832
dimensions, and for each text grain 90,000 tokens of 6,000 texts, drawn by Zipf's law from 7,000 rows of 256 numbers.
Every way of doing something must give the same result. Milliseconds, the best of 15.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarks import machine
from tfrs_mmse import cli, losses
from tfrs_mmse.losses import Comparison
from tfrs_mmse.towers import _pooled

Way = Callable[[], tf.Tensor]
_QUERIES, _CANDIDATES, _DIM = 1536, 2000, 832
_ROWS, _ROW_DIM, _TEXTS, _TOKENS = 7000, 256, 6000, 15


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints measurements and machine."""
    cli.argument_parser("benchmarks.train.alternatives", __doc__).parse_args(argv)
    described = machine.describe()
    measured = {
        "product of queries and candidates": _timed(_products(), tolerance=0.5),
        "sum of a text's rows, and the gradient of the rows": _timed(_pooling()),
        "softmax loss, and the gradient of the scores": _timed(_softmax()),
    }
    cli.print_result({"ratios": {}, "measurements": measured, "machine": described})


def _products() -> dict[str, Way]:
    queries = tf.random.stateless_normal([_QUERIES, _DIM], [0, 0])
    candidates = tf.random.stateless_normal([_CANDIDATES, _DIM], [0, 1])

    def product(dtype: tf.DType) -> Way:
        a, b = tf.cast(queries, dtype), tf.cast(candidates, dtype)
        return lambda: tf.linalg.matmul(a, b, transpose_b=True)

    return {"ours: float32": product(tf.float32), "bfloat16": product(tf.bfloat16)}


def _pooling() -> dict[str, Way]:
    lot = np.random.default_rng(0)
    lengths = lot.poisson(_TOKENS, _TEXTS)
    ids = np.minimum(lot.zipf(1.2, lengths.sum()) - 1, _ROWS - 1)
    rows, index = tf.unique(tf.constant(ids))
    text = tf.constant(np.repeat(np.arange(_TEXTS), lengths))
    size = tf.size(rows)
    table = tf.random.stateless_normal([_ROWS, _ROW_DIM], [0, 0])
    upstream = tf.random.stateless_normal([_TEXTS, _ROW_DIM], [0, 1])
    wanted = tf.gather(table, rows)

    def differentiated(pool: Callable[[tf.Tensor], tf.Tensor]) -> Way:
        def gradient() -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                pooled = pool(wanted)
            gradient = tape.gradient(pooled, wanted, output_gradients=upstream)
            return tf.convert_to_tensor(gradient)  # from sparse slices

        return gradient

    def as_product(rows: tf.Tensor) -> tf.Tensor:
        places = tf.stack([text, tf.cast(index, tf.int64)], axis=1)
        ones = tf.ones(tf.shape(text))
        matrix = tf.SparseTensor(places, ones, [_TEXTS, tf.cast(size, tf.int64)])
        return tf.sparse.sparse_dense_matmul(matrix, rows)

    return {
        "ours: sparse.segment_sum, and the same of sorted tokens": differentiated(
            lambda rows: _pooled(rows, index, text, tf.constant(_TEXTS))
        ),
        "sparse.segment_sum": differentiated(
            lambda rows: tf.sparse.segment_sum(rows, index, text, num_segments=_TEXTS)
        ),
        "gather, then unsorted_segment_sum": differentiated(
            lambda rows: tf.math.unsorted_segment_sum(
                tf.gather(rows, index), text, _TEXTS
            )
        ),
        "sparse_dense_matmul": differentiated(as_product),
    }


def _softmax() -> dict[str, Way]:
    score = tf.random.stateless_uniform([_QUERIES, _CANDIDATES], [0, 0], -1, 1)
    compared = Comparison(
        positive=tf.random.stateless_uniform([_QUERIES], [0, 1], -1, 1),
        row=tf.range(_QUERIES),
        candidate=score,
        is_negative=tf.random.stateless_uniform(score.shape, [0, 2]) > 0.01,
        log_inclusion_probability=tf.fill([_CANDIDATES], -2.0),
    )

    def differentiated(loss: Callable[[Comparison], tf.Tensor]) -> Way:
        def gradient() -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(score)
                value = tf.reduce_mean(loss(compared._replace(candidate=score)))
            return tape.gradient(value, score)

        return gradient

    def automatic(compared: Comparison) -> tf.Tensor:
        corrected = losses._corrected(compared, 0.05)
        log_sum = tf.gather(tf.reduce_logsumexp(corrected, axis=1), compared.row)
        return tf.nn.softplus(log_sum - compared.positive / 0.05)

    return {
        "ours: its own gradient": differentiated(
            lambda compared: losses.sampled_softmax_loss(compared, temperature=0.05)
        ),
        "automatic differentiation": differentiated(automatic),
    }


def _timed(ways: dict[str, Way], *, tolerance: float = 1e-2) -> dict[str, float]:
    """Milliseconds of each.

    Raises:
        CommandError: one gives another result than the first.
    """
    milliseconds: dict[str, float] = {}
    expected: np.ndarray | None = None
    for name, way in ways.items():
        run = tf.function(way)
        result = tf.cast(run(), tf.float32).numpy()
        expected = result if expected is None else expected
        if not np.allclose(result, expected, rtol=tolerance, atol=tolerance):
            raise cli.CommandError(
                f"{name!r} gives another result than {next(iter(ways))!r}: do not trust either's speed"
            )
        times = []
        for _ in range(15):
            started = time.perf_counter()
            run().numpy()
            times.append(time.perf_counter() - started)
        milliseconds[name] = round(min(times) * 1e3, 1)
    return milliseconds


if __name__ == "__main__":
    sys.exit(main())
