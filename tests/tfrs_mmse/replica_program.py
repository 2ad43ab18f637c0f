"""What each worker of `test_replicas.py` runs: some steps of training, whose results it writes to a file.

    TF_CONFIG=... python replica_program.py DATA OUTPUT 'KEY=VALUE KEY=VALUE' ...

Alone, without TF_CONFIG, it takes the steps with the batches of both workers merged into one.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_mmse import precision, replicas, restore, schema
from tfrs_mmse.batches import Batch, make_batch, training_batches
from tfrs_mmse.cluster import Cluster, joined
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.records import ALONE, Turn
from tfrs_mmse.stopping import Stop
from tfrs_mmse.tf_config import read_task

import tensorflow as tf  # isort: skip

STEPS = 3


def batches_of(config: TrainConfig, data: Path, turn: Turn) -> tf.data.Dataset:
    spec = schema.Manifest.read(data).features
    featurizer = Featurizer(spec, read_vocabularies(data, spec.grains))
    return training_batches(
        config, data, featurizer, num_items=300, steps_per_epoch=STEPS, turn=turn
    )


def merged(first: Batch, second: Batch) -> Batch:
    """One batch of the requests and candidates of two."""
    a, b = first.requests, second.requests
    together = together_of(a, b)._replace(
        request=tf.concat([a.request, b.request + a.positive_key.nrows()], axis=0)
    )
    candidates = together_of(first.candidates, second.candidates)
    batch = make_batch(together, candidates, seed=first.seed)
    return batch._replace(num_logged=first.num_logged + second.num_logged)


def together_of(first: Any, second: Any) -> Any:
    return tf.nest.map_structure(lambda *t: tf.concat(t, axis=0), first, second)


def weights_after(
    config: TrainConfig,
    data: Path,
    batches: tf.data.Dataset,
    strategy: tf.distribute.Strategy,
) -> dict[str, np.ndarray]:
    """Losses of the steps, and every weight and Adagrad's slots after them."""
    tf.keras.utils.set_random_seed(0)
    spec = schema.Manifest.read(data).features
    model = TwoTowerModel(
        spec, config, num_items=300, num_steps=STEPS, ordered_weight=3.0
    )
    restore.build(model, Featurizer(spec, read_vocabularies(data, spec.grains)))
    model.compile(precision.optimizer(config))

    @tf.function(input_signature=[batches.element_spec], autograph=False)
    def step(batch: Batch) -> dict[str, tf.Tensor]:
        return strategy.run(model.train_step, args=(batch,))

    found: dict[str, np.ndarray] = {}
    for number, batch in enumerate(batches):
        values = step(batch)
        for name in ("retrieval_loss", "ranking_loss"):
            found[f"{name} after step {number}"] = np.array(float(values[name]))
    for variable in model.variables:
        found[variable.name] = variable.numpy()
    for variable in model.trainable_variables:
        slot = model.optimizer.get_slot(variable, "accumulator")
        found[f"sum of {variable.name}"] = slot.numpy()
    return found


def gathering(cluster: Cluster) -> dict[str, np.ndarray]:
    """Worker 0 has two rows, worker 1 one; both weigh all rows by their number times 1 or 10."""
    number = cluster.turn.worker
    rows = tf.constant([[[1.0], [2.0]], [[3.0]]][number])
    weight = [1.0, 10.0][number] * tf.constant([[1.0], [2.0], [3.0]])

    def step(rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(rows)
            everyone, before = replicas.concatenated(rows)
            # As a sparse gradient, too.
            value = tf.reduce_sum(weight * tf.gather(everyone, [0, 1, 2]))
        total = replicas.total(tf.size(rows))
        return everyone, before, tape.gradient(value, rows), total

    run = tf.function(
        lambda rows: cluster.strategy.run(step, args=(rows,)), autograph=False
    )
    names = ("rows", "before", "gradient", "total")
    return {f"gathering/{n}": v.numpy() for n, v in zip(names, run(rows), strict=True)}


def main() -> None:
    data, output, *settings = sys.argv[1:]
    with joined(read_task(), Path(output), Stop()) as cluster:
        alone = cluster.turn == ALONE
        found = {} if alone else gathering(cluster)
        for text in settings:
            config = TrainConfig(epochs=1).override(text.split())
            batches = [batches_of(config, Path(data), turn) for turn in turns(cluster)]
            steps = batches[0]
            if alone:
                steps = tf.data.Dataset.zip(*batches).map(merged)
                num_random = 2 * config.num_random_items
                config = config.override([f"uniform_negatives={num_random}"])
            after = weights_after(
                config, Path(data), steps.take(STEPS), cluster.strategy
            )
            found |= {f"{text}/{name}": value for name, value in after.items()}
        np.savez(output, **{k.replace("/", "|"): v for k, v in found.items()})
        cluster.wait()


def turns(cluster: Cluster) -> list[Turn]:
    both = [Turn(2, 0), Turn(2, 1)]
    return both if cluster.turn == ALONE else [cluster.turn]


if __name__ == "__main__":
    main()
