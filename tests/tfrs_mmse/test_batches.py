from math import ceil
from typing import Any

import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import schema
from tfrs_mmse.batches import Batch, chosen_levels, make_batch, training_batches
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.presets import PRESETS
from tfrs_mmse.records import Items, Requests

SEED = tf.constant([0, 0], tf.int64)


def ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    return tf.ragged.constant(
        rows, dtype=tf.int64, ragged_rank=1, row_splits_dtype=tf.int64
    )


def items(key: list[int]) -> Items:
    """Items whose every feature follows from their key, as it does in the catalogue."""
    return Items(
        key=tf.constant(key, tf.int64),
        ids={
            "word": ragged([[k] * (k % 3) for k in key]),
            "brand": tf.constant([10 * k for k in key], tf.int64),
        },
        log_probability=tf.constant([-float(k) for k in key]),
    )


def requests(key: list[int], request: list[int]) -> Requests:
    return Requests(
        query_ids={"word": ragged([[1], [2]])},
        positive_key=ragged([[], []]),
        items=items(key),
        request=tf.constant(request, tf.int64),
        level=tf.constant([2] * len(key)),
        position=tf.constant([0] * len(key)),
    )


def test_every_item_is_a_candidate_once_with_its_features() -> None:
    batch = make_batch(requests([5, 7, 5], [0, 0, 1]), items([7, 8, 8]), seed=SEED)
    assert_array_equal(batch.candidates.key, [5, 7, 8])
    assert batch.candidates.ids["word"].to_list() == [[5, 5], [7], [8, 8]]
    assert_array_equal(batch.candidates.ids["brand"], [50, 70, 80])
    assert_allclose(batch.candidates.log_probability, [-5, -7, -8])
    assert_array_equal(batch.slot, [0, 1, 0])


def test_without_random_items_the_candidates_are_those_of_the_requests() -> None:
    batch = make_batch(requests([4, 4, 6], [0, 1, 1]), seed=SEED)
    assert_array_equal(batch.candidates.key, [4, 6])
    assert_array_equal(batch.slot, [0, 0, 1])


def test_each_slot_finds_its_item_again() -> None:
    keys = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    batch = make_batch(
        requests(keys, sorted(k % 2 for k in keys)), items([9, 7]), seed=SEED
    )
    assert_array_equal(tf.gather(batch.candidates.key, batch.slot), keys)


def test_synthetic_requests_come_after_those_of_the_log() -> None:
    logged, made = requests([5, 7, 5], [0, 0, 1]), requests([8, 9], [0, 1])
    batch = make_batch(logged, items([8, 9, 7]), made, seed=SEED)
    assert_array_equal(batch.candidates.key, [5, 7, 8, 9])
    assert_array_equal(batch.slot, [0, 1, 0, 2, 3])
    assert_array_equal(batch.requests.request, [0, 0, 1, 2, 3])
    assert batch.requests.query_ids["word"].to_list() == [[1], [2], [1], [2]]
    assert batch.requests.positive_key.nrows() == 4
    assert batch.num_logged == 3


def test_without_the_log_synthetic_requests_are_all() -> None:
    batch = make_batch(None, items([8, 9, 7]), requests([8, 9], [0, 1]), seed=SEED)
    assert_array_equal(batch.candidates.key, [8, 9, 7])
    assert_array_equal(batch.requests.request, [0, 1])
    assert batch.num_logged == 0


def test_every_level_is_there_unless_it_is_left_out() -> None:
    shown = requests([5, 7, 8], [0, 0, 1])._replace(level=tf.constant([3, 1, 2]))
    same = chosen_levels(shown, unclicked=True, ordered_level=True)
    assert_array_equal(same.level, [3, 1, 2])
    assert_array_equal(same.items.key, [5, 7, 8])


def test_without_their_level_orders_are_clicks() -> None:
    shown = requests([5, 7, 8], [0, 0, 1])._replace(level=tf.constant([3, 1, 2]))
    clicked = chosen_levels(shown, unclicked=True, ordered_level=False)
    assert_array_equal(clicked.level, [2, 1, 2])


def test_left_out_unclicked_items_are_in_no_part_of_the_batch() -> None:
    shown = requests([5, 7, 8, 4], [0, 0, 1, 1])._replace(
        level=tf.constant([3, 1, 1, 2]), position=tf.constant([0, 1, 2, 3])
    )
    kept = chosen_levels(shown, unclicked=False, ordered_level=True)
    assert_array_equal(kept.level, [3, 2])
    assert_array_equal(kept.request, [0, 1])
    assert_array_equal(kept.position, [0, 3])
    batch = make_batch(kept, seed=SEED)
    assert_array_equal(batch.candidates.key, [5, 4])
    assert batch.candidates.ids["word"].to_list() == [[5, 5], [4]]
    assert_array_equal(batch.candidates.ids["brand"], [50, 40])
    assert_allclose(batch.candidates.log_probability, [-5, -4])


def test_a_request_of_unclicked_items_stays_without_items() -> None:
    shown = requests([5, 7], [0, 1])._replace(level=tf.constant([1, 1]))
    kept = chosen_levels(shown, unclicked=False, ordered_level=True)
    assert kept.positive_key.nrows() == 2
    assert make_batch(kept, seed=SEED).candidates.key.shape == [0]


@pytest.mark.parametrize("preset", ["mmse", "two_tower", "cold_start"])
def test_a_training_that_goes_on_sees_what_it_would_have_seen(
    simulated_shop: Any, preset: str
) -> None:
    config = PRESETS[preset]().override(
        ["grains=word,brand", "batch_size=100", "synthetic_queries=40", "epochs=3"]
        + (["uniform_negatives=70"] if preset == "mmse" else [])
    )
    manifest = schema.Manifest.read(simulated_shop.examples)
    grains = manifest.features.grains
    featurizer = Featurizer(
        manifest.features, read_vocabularies(simulated_shop.examples, grains)
    )

    def batches(first_step: int) -> list[Batch]:
        found = training_batches(
            config,
            simulated_shop.examples,
            featurizer,
            num_items=manifest.num_items,
            steps_per_epoch=ceil(manifest.splits["train"]["requests"] / 100),
            first_step=first_step,
        )
        return list(found.take(12 - first_step))

    whole = batches(0)
    seeds = [tuple(batch.seed.numpy()) for batch in whole]
    assert seeds == [(0, step) for step in range(len(whole))]
    for first_step in (1, 3, 5):
        tf.random.set_seed(first_step)  # must not matter
        rest = batches(first_step)
        assert len(rest) == len(whole) - first_step
        for expected, found in zip(
            tf.nest.flatten(whole[first_step:], expand_composites=True),
            tf.nest.flatten(rest, expand_composites=True),
            strict=True,
        ):
            assert_array_equal(expected, found)
