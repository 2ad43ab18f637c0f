"""How exactly a training multiplies: in single precision, or in half precision where a GPU makes that pay.

Mixed precision: the products of scores and linear maps are taken in float16; tables, sums, lengths, losses and the
weights themselves stay in float32. Most gradients of a score are below what float16 can tell from zero, so the loss is
multiplied by a large number before they are taken, and they are divided by it before they are applied. Half precision
means float16 and not bfloat16, which would round scores near 1 to steps of 1/256, a twelfth of the default temperature.
"""

import dataclasses
from pathlib import Path

import tensorflow as tf

from tfrs_mmse import run_directory, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.cluster import Cluster
from tfrs_mmse.config import AUTO, FLOAT32, MIXED, TrainConfig


def resolved(config: TrainConfig, model_dir: Path, cluster: Cluster) -> TrainConfig:
    """The config with a precision in place of `auto`.

    A run keeps to the precision that it began with, wherever it goes on.

    Args:
        config: The training config.
        model_dir: The run's directory.
        cluster: Who takes part.

    Raises:
        CommandError: mixed precision is asked for where it is not to be had.
    """
    if cluster.has_parameter_servers and config.precision == MIXED:
        raise CommandError(
            f"config field precision must be {FLOAT32} with parameter servers, whose workers do not share the scale of "
            f"the loss, got {MIXED!r}"
        )
    if config.precision != AUTO:
        return config
    return dataclasses.replace(config, precision=_automatic(model_dir, cluster))


def _automatic(model_dir: Path, cluster: Cluster) -> str:
    if (model_dir / schema.CONFIG).exists():
        former = run_directory.read(model_dir)["config"]
        return former.get("precision", FLOAT32)  # older runs knew no other
    gpus = tf.config.list_physical_devices("GPU")
    if cluster.has_parameter_servers or not gpus:
        return FLOAT32
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    cluster.say(f"training on {name} with precision {MIXED}")
    return MIXED


def optimizer(config: TrainConfig) -> tf.keras.optimizers.legacy.Optimizer:
    """Adagrad; in mixed precision with Keras's dynamic scale of the loss, which leaves out a step that overflows.

    Such a step counts as done.
    """
    # The legacy optimizer has a fused sparse update; the newer one is several times slower on large tables.
    adagrad = tf.keras.optimizers.legacy.Adagrad(config.learning_rate)
    if config.dtype_policy != MIXED:
        return adagrad
    return tf.keras.mixed_precision.LossScaleOptimizer(adagrad)
