"""What one training step sees: requests, and every item that takes part in it, once."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from tfrs_mmse import holdout, records, schema, synthetic
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer
from tfrs_mmse.records import ALONE, Catalogue, Items, Requests, Turn

_Rows = TypeVar("_Rows", Items, Requests)


class Batch(NamedTuple):
    """Requests and the candidates that their queries are compared with.

    Attributes:
        requests: B requests with N slots in all: those of the log, then the synthetic ones.
        candidates: The C distinct items among the requests' and the uniform random ones.
        slot: [N] int32 number of the candidate that each slot of the requests holds.
        num_logged: Slots of the requests of the log; they hold each item as often as the log does, on average.
        seed: [2] int64, for whatever is drawn in this step; of no other step.
    """

    requests: Requests
    candidates: Items
    slot: tf.Tensor
    num_logged: tf.Tensor
    seed: tf.Tensor


def training_batches(
    config: TrainConfig,
    data: Path,
    featurizer: Featurizer,
    *,
    num_items: int,
    steps_per_epoch: int,
    first_step: int = 0,
    left_out: Collection[str] = (),
    turn: Turn = ALONE,
) -> tf.data.Dataset:
    """The batches of a training, one a step: what a batch holds depends on the config, the data and its step alone.

    So a training that goes on after any step sees what it would have seen without the interruption.

    Of several workers, each reads the same streams and takes every n-th batch of them, so that together they see what
    one would. In the last step of an epoch, some may have no request.

    Args:
        config: The training config.
        data: Directory of examples.
        featurizer: Looks up the words of synthetic queries.
        num_items: Items in the catalogue.
        steps_per_epoch: Steps that see every request of the log once.
        first_step: Steps that are done already.
        left_out: Names of shards that are not read.
        turn: Which batches of the streams are this worker's.

    Returns:
        A dataset of `Batch`, endless if the log is not learned from.
    """
    spec = featurizer.spec
    number = tf.data.Dataset.counter(
        first_step * turn.num_workers + turn.worker, turn.num_workers
    )
    parts: dict[str, tf.data.Dataset] = {"number": number}
    if config.use_log:
        epoch, skip = divmod(first_step, steps_per_epoch)
        parts["requests"] = _logged(
            config, data, spec, range(epoch, config.epochs), skip, left_out, turn
        )
    if config.num_random_items:
        parts["drawn"] = records.random_item_batches(
            data,
            spec,
            batch_size=config.num_random_items,
            seed=config.seed,
            num_items=num_items,
            skip=first_step,
            left_out=left_out,
            turn=turn,
        )

    def assemble(parts: dict[str, Any]) -> Batch:
        seed = tf.stack([tf.constant(config.seed, tf.int64), parts["number"]])
        drawn: Catalogue | None = parts.get("drawn")
        made = None
        if drawn is not None and config.synthetic_queries:
            asked = tf.nest.map_structure(
                lambda rows: rows[: config.synthetic_queries], drawn
            )
            made = synthetic.requests(asked, featurizer, seed=seed)
        return make_batch(
            parts.get("requests"),
            None if drawn is None else drawn.items,
            made,
            seed=seed,
        )

    return (
        tf.data.Dataset.zip(parts)
        .map(assemble, num_parallel_calls=2, deterministic=True)
        .prefetch(4)
    )


def _logged(
    config: TrainConfig,
    data: Path,
    spec: schema.FeatureSpec,
    epochs: range,
    skip: int,
    left_out: Collection[str],
    turn: Turn,
) -> tf.data.Dataset:
    """The log's requests, with the levels that the config uses."""
    requests = records.request_batches(
        data,
        spec,
        schema.TRAIN,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=epochs,
        skip=skip,
        left_out=left_out,
        turn=turn,
        choose=lambda all_records: holdout.training_records(all_records, config),
    )
    return requests.map(
        lambda requests: chosen_levels(
            requests, unclicked=config.unclicked, ordered_level=config.ordered_level
        )
    )


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


def make_batch(
    requests: Requests | None,
    random_items: Items | None = None,
    synthetic_requests: Requests | None = None,
    *,
    seed: tf.Tensor,
) -> Batch:
    """Finds the distinct items: each is embedded and compared once, in however many requests it stands.

    Args:
        requests: Those of the log, if it is learned from.
        random_items: Drawn uniformly from the catalogue.
        synthetic_requests: Their items are among the random ones.
        seed: [2] int64, of this step.
    """
    num_logged = tf.constant(0) if requests is None else tf.size(requests.items.key)
    parts = [part for part in (requests, synthetic_requests) if part is not None]
    together = parts[0] if len(parts) == 1 else _one_after_the_other(*parts)
    items = together.items
    if random_items is not None:
        items = _concat(items, random_items)
    key, number, first = distinct(items.key)
    candidates = Items(
        key=key,
        ids={grain: tf.gather(ids, first) for grain, ids in items.ids.items()},
        log_probability=tf.gather(items.log_probability, first),
    )
    slot = number[: tf.size(together.items.key)]
    return Batch(together, candidates, slot, num_logged, seed)


def distinct(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Numbers equal keys alike, in the order in which they first come.

    Args:
        keys: [N].

    Returns:
        [C] distinct keys; [N] int32 number of each key among them; [C] int32 place where each comes first.
    """
    distinct, number = tf.unique(keys)
    place = tf.range(tf.size(number))
    first = tf.math.unsorted_segment_min(place, number, tf.size(distinct))
    return distinct, number, first


def _one_after_the_other(first: Requests, second: Requests) -> Requests:
    return _concat(first, second)._replace(
        request=tf.concat(
            [first.request, second.request + first.positive_key.nrows()], axis=0
        )
    )


def _concat(first: _Rows, second: _Rows) -> _Rows:
    """The rows of both, tensor by tensor."""
    return tf.nest.map_structure(
        lambda *tensors: tf.concat(tensors, axis=0), first, second
    )
