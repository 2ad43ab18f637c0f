"""This library: its own batches and its own training step, by the preset of the settings.

    python -m benchmarks.train.ours --pairs DIR --output DIR [--source memory]

From files as `tfrs_mmse.train` reads them; from memory, the batches of the first epoch again and again.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import tensorflow as tf

from benchmarks.train import layout
from benchmarks.train.layout import FILES, MEMORY, EpochClock, Settings, Trained
from tfrs_mmse import cli, corpus, precision, restore, schema
from tfrs_mmse.batches import training_batches
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel


class Training(NamedTuple):
    """A training that can be taken step by step.

    Attributes:
        trained: Model, data and config.
        batches: The steps' batches.
        steps_per_epoch: Steps that see every request once.
        take: Takes the next step and waits for it.
    """

    trained: restore.Trained
    batches: tf.data.Dataset
    steps_per_epoch: int
    take: Callable[[], None]


def start(data: Path, config: TrainConfig, source: str = FILES) -> Training:
    """A model with its initial values, and its batches, as `tfrs_mmse.trainer` makes them.

    Args:
        data: Directory of examples.
        config: The training config.
        source: `files`, or `memory`: the first epoch's batches, kept.
    """
    manifest = schema.Manifest.read(data)
    steps = -(-manifest.splits[schema.TRAIN]["requests"] // config.batch_size)
    tf.keras.utils.set_random_seed(config.seed)
    model = TwoTowerModel(
        manifest.features,
        config,
        num_items=manifest.num_items,
        num_steps=steps * config.epochs,
    )
    vocabularies = read_vocabularies(data, manifest.features.grains)
    featurizer = Featurizer(manifest.features, vocabularies)
    restore.build(model, featurizer)
    model.compile(precision.optimizer(config))
    batches = training_batches(
        config,
        data,
        featurizer,
        num_items=manifest.num_items,
        steps_per_epoch=steps,
    )
    if source == MEMORY:
        batches = batches.take(steps).cache().repeat()
    iterator = iter(batches)

    @tf.function
    def step() -> dict[str, tf.Tensor]:
        return model.train_step(next(iterator))

    def take() -> None:
        # Every value is looked at, as the trainer does.
        for value in step().values():
            float(value)

    trained = restore.Trained(config, manifest, featurizer, model)
    return Training(trained, batches, steps, take)


def train(folder: Path, settings: Settings, source: str) -> Trained:
    """Trains by the library's step."""
    config = TrainConfig.from_dict(settings.config | {"epochs": settings.epochs})
    training = start(Path(settings.examples), config, source)
    clock = EpochClock()
    for _ in range(config.epochs):
        for _ in range(training.steps_per_epoch):
            training.take()
        clock.epoch_ends()
    queries: Any = pq.read_table(folder / layout.QUERIES)[schema.QUERY]
    return Trained(
        clock.seconds(),
        corpus.embed_queries(training.trained, queries.to_pylist()),
        corpus.embed_items(training.trained, Path(settings.examples)).embedding,
    )


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Trains and writes the vectors."""
    layout.run("ours", __doc__, train, argv)


if __name__ == "__main__":
    sys.exit(main())
