"""Taking a training's steps: alone, together with other workers, or by workers of parameter servers."""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import parameter_servers
from tfrs_mmse.batches import Batch
from tfrs_mmse.cluster import Cluster
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.monitor import Monitor


class Step(NamedTuple):
    """A step that was taken.

    Attributes:
        done: Steps done, this one among them.
        values: What Keras and TFRS say of it: its loss, and the means of the epoch so far.
        seen: What the monitor saw of it; empty if it is not to be shown.
    """

    done: int
    values: dict[str, float]
    seen: dict[str, float]


def take(
    numbers: range,
    batches: tf.data.Dataset,
    model: TwoTowerModel,
    monitor: Monitor,
    cluster: Cluster,
    *,
    steps_per_epoch: int,
) -> Iterator[Step]:
    """Takes the steps with these numbers, from 0.

    Args:
        numbers: Of the steps.
        batches: What they train on, from the first of them on.
        model: The compiled model.
        monitor: Looks at some of them; not at those of workers of parameter servers.
        cluster: Who takes part.
        steps_per_epoch: Length of an epoch.
    """
    if not numbers:
        return
    if cluster.has_parameter_servers:
        for done, values in parameter_servers.steps(
            cluster.strategy,
            model.train_step,
            batches,
            numbers,
            steps_per_epoch=steps_per_epoch,
        ):
            yield Step(done, values, {})
        return

    shown = tf.TensorSpec([], tf.bool)

    @tf.function(input_signature=[batches.element_spec, shown], autograph=False)
    def take_one(
        batch: Batch, is_shown: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        values, gradient_norm = cluster.strategy.run(
            monitor.train_step, args=(batch, is_shown)
        )
        # The share of each worker; the means are those of all of them already.
        loss = cluster.strategy.reduce("SUM", values["loss"], None)
        return values | {"loss": loss}, gradient_norm

    iterator = iter(batches)
    for number in numbers:
        batch, is_shown = next(iterator), monitor.shows(number + 1)
        seen = monitor.look(batch) if is_shown else {}
        values, gradient_norm = take_one(batch, tf.constant(is_shown))
        if is_shown:
            seen["gradient_norm"] = float(gradient_norm)
        yield Step(number + 1, {name: float(v) for name, v in values.items()}, seen)
