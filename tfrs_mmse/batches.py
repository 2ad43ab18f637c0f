"""What one training step sees: requests, and every item that takes part in it, once."""

from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import records, schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.records import Items, Requests


class Batch(NamedTuple):
    """Requests and the candidates that their queries are compared with.

    Attributes:
        requests: B requests with N slots in all.
        candidates: The C distinct items among the requests' and the uniform random ones.
        slot: [N] int32 number of the candidate that each slot of the requests holds.
    """

    requests: Requests
    candidates: Items
    slot: tf.Tensor


def training_batches(
    config: TrainConfig, data: Path, manifest: schema.Manifest, epochs: range
) -> tf.data.Dataset:
    """The training batches of the given epochs: a dataset of `Batch`."""
    spec = manifest.features
    requests = records.request_batches(
        data,
        spec,
        schema.TRAIN,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=epochs,
    ).map(
        lambda requests: chosen_levels(
            requests, unclicked=config.unclicked, ordered_level=config.ordered_level
        )
    )
    if config.uniform_negatives == 0:
        batches = requests.map(make_batch, num_parallel_calls=2)
    else:
        random_items = records.random_item_batches(
            data,
            spec,
            batch_size=config.uniform_negatives,
            # Another part of the catalogue after a restart than at the start.
            seed=config.seed + 7919 * epochs.start,
        )
        pairs = tf.data.Dataset.zip((requests, random_items))
        batches = pairs.map(make_batch, num_parallel_calls=2)
    return batches.prefetch(4)


def chosen_levels(
    requests: Requests, *, unclicked: bool, ordered_level: bool
) -> Requests:
    """The requests as a run without some level sees them.

    Args:
        requests: As the records have them.
        unclicked: Whether unclicked items stay; a request that had no others is left without items.
        ordered_level: Whether ordered items stay above clicked ones, or become clicked.
    """
    if not ordered_level:
        clicked = tf.constant(schema.Level.CLICKED, requests.level.dtype)
        requests = requests._replace(level=tf.minimum(requests.level, clicked))
    if unclicked:
        return requests
    keep = requests.level != schema.Level.UNCLICKED
    items = requests.items
    return requests._replace(
        items=Items(
            key=tf.boolean_mask(items.key, keep),
            ids={g: tf.ragged.boolean_mask(i, keep) for g, i in items.ids.items()},
            log_probability=tf.boolean_mask(items.log_probability, keep),
        ),
        request=tf.boolean_mask(requests.request, keep),
        level=tf.boolean_mask(requests.level, keep),
        position=tf.boolean_mask(requests.position, keep),
    )


def make_batch(requests: Requests, random_items: Items | None = None) -> Batch:
    """Finds the distinct items: each is embedded and compared once, in however many requests it stands."""
    items = requests.items
    if random_items is not None:
        items = Items(
            key=tf.concat([items.key, random_items.key], axis=0),
            ids={
                g: tf.concat([ids, random_items.ids[g]], axis=0)
                for g, ids in items.ids.items()
            },
            log_probability=tf.concat(
                [items.log_probability, random_items.log_probability], axis=0
            ),
        )
    key, number = tf.unique(items.key)
    first = tf.math.unsorted_segment_min(
        tf.range(tf.size(number)), number, tf.size(key)
    )
    candidates = Items(
        key=key,
        ids={grain: tf.gather(ids, first) for grain, ids in items.ids.items()},
        log_probability=tf.gather(items.log_probability, first),
    )
    return Batch(requests, candidates, number[: tf.size(requests.items.key)])
