"""Which queries are held out of training, and that no request of theirs is trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfrs_mmse import holdout, schema
from tfrs_mmse.batches import training_batches
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.streams import read_columns

QUERIES = tf.constant([f"query {i}" for i in range(10_000)])
QUERY = {schema.QUERY: tf.io.FixedLenFeature([], tf.string)}


def held_out(share: float) -> set[bytes]:
    return set(QUERIES.numpy()[holdout.is_held_out(QUERIES, share).numpy()])


def test_a_share_of_the_queries_is_held_out() -> None:
    assert held_out(0.0) == set()
    assert len(held_out(1.0)) == len(QUERIES)
    # Six standard deviations of a binomial are 131.
    assert abs(len(held_out(0.05)) - 500) < 131


def test_the_queries_of_a_smaller_share_are_among_those_of_a_larger() -> None:
    assert held_out(0.01) < held_out(0.05) < held_out(0.5)


def queries_of(data: Path) -> list[bytes]:
    return [q for b in read_columns(data, schema.TRAIN, QUERY) for q in b[schema.QUERY]]


def names(records: tf.data.Dataset) -> list[bytes]:
    return [tf.io.parse_single_example(r, QUERY)[schema.QUERY].numpy() for r in records]


def test_requests_of_held_out_queries_are_not_trained_on(simulated_shop: Any) -> None:
    data = simulated_shop.examples
    config = TrainConfig(patience=1, validation_share=0.3)
    everything = holdout.records_of(data, schema.TRAIN)
    left = names(holdout.training_records(everything, config))
    out = {q for q in queries_of(data) if holdout.is_held_out(tf.constant([q]), 0.3)[0]}
    assert out and left == [q for q in queries_of(data) if q not in out]
    held = holdout.read(config, data, num_queries=len(set(queries_of(data))))
    assert held.num_training == len(left)
    sampled = names(tf.data.Dataset.from_tensor_slices(held.sample))
    assert sampled and set(sampled) <= out


def test_without_patience_everything_is_trained_on(simulated_shop: Any) -> None:
    everything = holdout.records_of(simulated_shop.examples, schema.TRAIN)
    assert holdout.training_records(everything, TrainConfig()) is everything


@pytest.mark.parametrize("first_step", [0, 3])
def test_an_epoch_sees_every_request_that_is_left_once(
    simulated_shop: Any, first_step: int
) -> None:
    data = simulated_shop.examples
    config = TrainConfig(
        patience=1, validation_share=0.3, batch_size=16, epochs=1, synthetic_queries=0
    )
    manifest = schema.Manifest.read(data)
    num_left = holdout.read(config, data, num_queries=69).num_training
    steps_per_epoch = -(-num_left // 16)
    spec = manifest.features
    batches = training_batches(
        config,
        data,
        Featurizer(spec, read_vocabularies(data, spec.grains)),
        num_items=manifest.num_items,
        steps_per_epoch=steps_per_epoch,
        first_step=first_step,
    )
    sizes = [int(batch.requests.positive_key.nrows()) for batch in batches]
    assert len(sizes) == steps_per_epoch - first_step
    assert sum(sizes) == num_left - 16 * first_step


def test_only_queries_with_something_to_find_are_sampled(
    tmp_path: Path, write_records: Callable[[Path, list[dict[str, list[Any]]]], None]
) -> None:
    is_out = holdout.is_held_out(QUERIES, 0.5).numpy()
    first, second, third = (q.decode() for q in QUERIES.numpy()[is_out][:3])
    left = QUERIES.numpy()[~is_out][0].decode()
    requests = [(first, ["x"]), (second, []), (third, ["y"]), (left, ["x"])]
    records = [
        {schema.QUERY: [query], schema.QUERY_POSITIVES: positives}
        for query, positives in [*requests, (first, ["x"])]
    ]
    write_records(tmp_path / "train-00000-of-00001.tfrecord.gz", records)
    config = TrainConfig(patience=1, validation_share=0.5)
    held = holdout.read(config, tmp_path, num_queries=4)
    sampled = names(tf.data.Dataset.from_tensor_slices(held.sample))
    assert [query.decode() for query in sampled] == [first, third, first]
    assert held.num_training == 1


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.0, "leaves nothing to train on: give a smaller one, or patience 0"),
        (0.0, "leaves nothing to validate with: give a larger one, or patience 0"),
    ],
)
def test_a_share_that_leaves_nothing_is_refused(
    simulated_shop: Any, share: float, message: str
) -> None:
    config = TrainConfig(patience=1, validation_share=share)
    with pytest.raises(
        CommandError, match=f"validation_share {share:g} of .*{message}"
    ):
        holdout.read(config, simulated_shop.examples, num_queries=69)
