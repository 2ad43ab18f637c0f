"""The two towers as the retrieval tutorials of TensorFlow Recommenders write them.

    python -m benchmarks.train.tutorial --pairs DIR --output DIR [--source memory]

Raw text goes into the model, whose `TextVectorization` and `Embedding` layers look it up and take the mean, as in the
tutorial "Building deep retrieval models"; `tfrs.tasks.Retrieval` is the loss, `tf.keras.optimizers.Adagrad` the
optimiser, `fit` the loop, and `cache` keeps the data in memory. What the tutorials leave open is set as in the other
systems: three grains of text, one linear map, unit vectors, a temperature, no accidental hits. The tutorial's
`GlobalAveragePooling1D` is spelled out, because it gives NaN for a query of one word, which has no bigram.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.train import layout
from benchmarks.train.layout import ITEM, MEMORY, TEXT, EpochClock, Settings, Trained
from tfrs_mmse import cli, features, schema, text

_MAX_WORDS = 64


def lookup(name: str, vocabulary: Sequence[str]) -> tf.keras.layers.TextVectorization:
    """Raw strings -> token ids of one grain, padded with 0."""

    def split(strings: tf.Tensor) -> tf.RaggedTensor:
        return text.text_grains(strings, max_words=_MAX_WORDS)[name]

    return tf.keras.layers.TextVectorization(
        standardize=text.fold, split=split, vocabulary=list(vocabulary)
    )


def mean(table: tf.keras.layers.Embedding, ids: tf.Tensor) -> tf.Tensor:
    """[B, dim] mean of the tokens' embeddings: [B, T] ids, padded with 0."""
    is_token = tf.cast(table.compute_mask(ids), tf.float32)[:, :, None]
    total = tf.reduce_sum(table(ids) * is_token, axis=1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(is_token, axis=1))


class TextGrains(tf.keras.Model):
    """Every text grain's tokens, looked up and pooled; one table a grain for both towers."""

    def __init__(self, settings: Settings, vocabularies: dict[str, list[str]]) -> None:
        super().__init__()
        self._lookups = [
            lookup(name, vocabularies[name]) for name in settings.text_grains
        ]
        initializer = tf.keras.initializers.RandomNormal(
            stddev=settings.initial_scale, seed=settings.seed
        )
        self._tables = [
            tf.keras.layers.Embedding(
                layer.vocabulary_size(),
                settings.embedding_dim,
                embeddings_initializer=initializer,
                mask_zero=True,
            )
            for layer in self._lookups
        ]

    def call(self, strings: tf.Tensor) -> tf.Tensor:
        ids = [layer(strings) for layer in self._lookups]
        pooled = [mean(table, i) for table, i in zip(self._tables, ids, strict=True)]
        return tf.concat(pooled, axis=1)


class TwoTower(tfrs.Model):
    """Query and item tower and the retrieval task."""

    def __init__(self, settings: Settings, vocabularies: dict[str, list[str]]) -> None:
        super().__init__()
        self._text = TextGrains(settings, vocabularies)
        self._attributes = {
            name: tf.keras.layers.Embedding(size, settings.attribute_dim)
            for name, size in settings.attribute_grains.items()
        }
        self._query_map = tf.keras.layers.Dense(settings.fused_dim, use_bias=False)
        self._item_map = tf.keras.layers.Dense(settings.fused_dim, use_bias=False)
        self._task = tfrs.tasks.Retrieval(
            temperature=settings.temperature, remove_accidental_hits=True
        )

    def query(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """[B, D] unit vectors."""
        return tf.math.l2_normalize(
            self._query_map(self._text(rows[schema.QUERY])), axis=1
        )

    def item(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """[B, D] unit vectors."""
        attributes = [
            table(rows[schema.item_feature(name)])
            for name, table in self._attributes.items()
        ]
        raw = tf.concat([self._text(rows[TEXT]), *attributes], axis=1)
        return tf.math.l2_normalize(self._item_map(raw), axis=1)

    def compute_loss(
        self, inputs: dict[str, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        return self._task(
            self.query(inputs),
            self.item(inputs),
            candidate_ids=inputs[ITEM],
            compute_metrics=False,
        )


def pairs(folder: Path, settings: Settings, source: str) -> tf.data.Dataset:
    """Batches of pairs, parsed a batch at a time."""
    parsed = {
        schema.QUERY: tf.io.FixedLenFeature([], tf.string),
        TEXT: tf.io.FixedLenFeature([], tf.string),
        ITEM: tf.io.FixedLenFeature([], tf.int64),
        **{
            schema.item_feature(name): tf.io.FixedLenFeature([], tf.int64)
            for name in settings.attribute_grains
        },
    }
    files = tf.data.Dataset.list_files(
        str(folder / layout.TEXT_PAIRS), seed=settings.seed
    )
    rows = files.interleave(
        tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE
    )
    if source == MEMORY:
        rows = rows.cache()
    return (
        rows.shuffle(16 * settings.batch_size, seed=settings.seed)
        .batch(settings.batch_size)
        .map(
            lambda batch: tf.io.parse_example(batch, parsed),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
    )


def train(folder: Path, settings: Settings, source: str) -> Trained:
    """Trains by `fit`."""
    tf.keras.utils.set_random_seed(settings.seed)
    grains = [
        schema.Grain(name=name, kind=schema.GrainKind.TEXT, size=size)
        for name, size in settings.text_grains.items()
    ]
    vocabularies = features.read_vocabularies(Path(settings.examples), grains)
    model = TwoTower(settings, vocabularies)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(settings.learning_rate))
    clock = EpochClock()
    model.fit(
        pairs(folder, settings, source),
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            tf.keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: clock.epoch_ends()
            )
        ],
    )
    return Trained(
        clock.seconds(),
        _vectors(model.query, folder / layout.QUERIES),
        _vectors(model.item, folder / layout.ITEMS),
    )


def _vectors(
    tower: Callable[[dict[str, tf.Tensor]], tf.Tensor], path: Path
) -> np.ndarray:
    """[rows, D] of a table with text, in blocks that padding does not blow up."""
    table = pq.read_table(path)
    vectors = []
    for row in range(0, len(table), 512):
        rows: dict[str, Any] = {
            name: tf.constant(column.to_numpy())
            for name, column in _plain(table.slice(row, 512)).items()
        }
        vectors.append(tower(rows).numpy())
    return np.concatenate(vectors)


def _plain(table: Any) -> dict[str, Any]:
    names = [n for n in table.column_names if not hasattr(table[n].type, "value_type")]
    return {name: table[name] for name in names}


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Trains and writes the vectors."""
    layout.run("tutorial", __doc__, train, argv)


if __name__ == "__main__":
    sys.exit(main())
