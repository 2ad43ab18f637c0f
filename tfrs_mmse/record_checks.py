"""What every record must keep to: checked where records are parsed, in the graph, so that nothing wrong is learned.

A feature that a record lacks parses as an empty list, and a GPU reads an id beyond its table as zeros: without these
checks such records would train a worse model and say nothing.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import schema

Parsed = Mapping[str, tf.RaggedTensor]


class Check(NamedTuple):
    """Something that must hold.

    Attributes:
        holds: Scalar bool.
        otherwise: What is wrong if it does not hold.
    """

    holds: tf.Tensor
    otherwise: str


def require(*checks: Check) -> None:
    """Adds one assertion of all of these to the graph: each by itself would cost more than the checks do.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, naming what does not hold.
    """
    fails = ~tf.stack([check.holds for check in checks])
    wrong = tf.boolean_mask([check.otherwise for check in checks], fails)
    tf.raw_ops.Assert(condition=~tf.reduce_any(fails), data=[wrong])


def item_checks(parsed: Parsed, spec: schema.FeatureSpec) -> Iterator[Check]:
    """Of the items of a batch of records: as many values as items, ids inside the vocabularies.

    Args:
        parsed: The item features of B records, [B, (items)]; of text grains [B, (items * F), (tokens)].
        spec: The manifest's feature spec.
    """
    num_items = parsed[schema.ITEM_ID].row_lengths()
    for grain in spec.attribute_grains:
        name = schema.item_feature(grain.name)
        yield _fits(parsed[name], num_items, name)
        yield _ids_exist(parsed[name], grain, name)
    for grain in spec.text_grains:
        name = schema.item_feature(grain.name)
        yield _fits(parsed[name], num_items * len(spec.text_fields), name)
        yield _ids_exist(parsed[name], grain, name)
        # TensorFlow could check this as it parses, at ten times the cost of all the rest here.
        lengths = parsed[name].values.row_lengths()
        num_tokens = tf.size(parsed[name].flat_values, tf.int64)
        yield Check(
            tf.reduce_all(lengths >= 0) & (tf.reduce_sum(lengths) == num_tokens),
            f"{schema.item_lengths(grain.name)} does not fit the ids",
        )
    share = parsed[schema.LOG_PROBABILITY]
    yield _fits(share, num_items, schema.LOG_PROBABILITY)
    yield Check(
        tf.reduce_all(share.flat_values <= 0),
        f"{schema.LOG_PROBABILITY} holds what is no logarithm of a probability",
    )


def request_checks(parsed: Parsed, spec: schema.FeatureSpec) -> Iterator[Check]:
    """Of what B requests have besides their items' features, [B, (values)] each."""
    num_items = parsed[schema.ITEM_ID].row_lengths()
    for name in (schema.LEVEL, schema.POSITION):
        yield _fits(parsed[name], num_items, name)
    level = parsed[schema.LEVEL].flat_values
    known = (level >= schema.Level.UNCLICKED) & (level <= schema.Level.ORDERED)
    yield Check(tf.reduce_all(known), f"{schema.LEVEL} holds what is no level")
    for grain in spec.text_grains:
        name = schema.query_feature(grain.name)
        yield _ids_exist(parsed[name], grain, name)


def _fits(values: tf.RaggedTensor, expected: tf.Tensor, name: str) -> Check:
    holds = tf.reduce_all(values.row_lengths() == expected)
    return Check(holds, f"{name} does not fit the items of its record")


def _ids_exist(ids: tf.RaggedTensor, grain: schema.Grain, name: str) -> Check:
    exist = (ids.flat_values >= 0) & (ids.flat_values < grain.size)
    return Check(
        tf.reduce_all(exist), f"{name} holds ids beyond its vocabulary of {grain.size}"
    )
