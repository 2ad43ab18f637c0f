"""The bytes of examples: what the official implementation reads from them, and what it would have written."""

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from beam import wire

INT64 = (0, 1, 127, 128, 16_383, 16_384, 2**31 - 1, 2**62, 2**63 - 1, -1, -(2**63))


def features(pieces: pl.Series, *ends: int) -> list[tf.train.Feature]:
    """What is read of the feature of integers that holds the rows up to each end."""
    messages = wire.ints_feature(wire.runs(pieces, np.array(ends)))
    return [
        tf.train.Example.FromString(record).features.feature["x"]
        for record in wire.examples({"x": messages}).to_pylist()
    ]


def test_a_varint_is_that_of_the_specification() -> None:
    (piece,) = wire.varints(pl.Series([150]))  # the specification's own example
    assert piece == b"\x96\x01"


@pytest.mark.parametrize("number", INT64)
def test_every_integer_is_read_as_it_was(number: int) -> None:
    (feature,) = features(wire.varints(pl.Series([number])), 1)
    assert list(feature.int64_list.value) == [number]


def test_runs_of_pieces_are_the_lists_together() -> None:
    lists = pl.Series([[300, 1], [], [-1], [5]], dtype=pl.List(pl.Int64))
    read = [
        list(feature.int64_list.value)
        for feature in features(wire.varints(lists), 1, 2, 2, 4)
    ]
    assert read == [[300, 1], [], [], [-1, 5]]


@pytest.mark.parametrize("text", ["", "a", "é北", "x" * 127, "x" * 128, "é" * 64])
def test_every_string_is_read_as_it_was(text: str) -> None:
    alone, beside = wire.strings(pl.Series([text, "b"]))
    listed, none = wire.strings(pl.Series([[text, "b"], []]))
    values = tf.train.BytesList.FromString(alone + beside).value
    assert list(values) == [text.encode(), b"b"]
    assert (listed, none) == (alone + beside, b"")


def test_a_slice_of_a_column_has_its_own_rows() -> None:
    column = wire.strings(pl.Series(["a", "bc", "d", "e"]))
    whole = np.array([2])
    assert wire.runs(column[1:3], whole).to_pylist() == [b"\x0a\x02bc\x0a\x01d"]
    turned = pl.concat([column[3:], column[:1]])
    assert wire.runs(turned, whole).to_pylist() == [b"\x0a\x01e\x0a\x01a"]


def test_columns_without_rows_have_no_bytes() -> None:
    for column in (
        wire.varints(pl.Series([], dtype=pl.Int32)),
        wire.varints(pl.Series([], dtype=pl.List(pl.Int32))),
        wire.floats(pl.Series([], dtype=pl.Float32)),
        wire.strings(pl.Series([], dtype=pl.String)),
        wire.strings(pl.Series([], dtype=pl.List(pl.String))),
    ):
        assert (column.dtype, len(column)) == (pl.Binary, 0)
        assert wire.runs(column, np.array([0, 0])).to_pylist() == [b"", b""]


@pytest.mark.parametrize("length", [0, 1, 60, 127, 128, 20_000, 3_000_000])
def test_an_example_is_the_one_that_the_official_implementation_writes(
    length: int,
) -> None:
    names, scores = ["é" * 3, "query"], [0.5, -1e30]
    official = tf.train.Example()
    feature = official.features.feature
    feature["item/score"].float_list.value.extend(scores)
    feature["item/word"].int64_list.value.extend([7] * length)
    feature["no name"].bytes_list.value.extend([])
    feature["none"].int64_list.value.extend([])
    feature["query"].bytes_list.value.extend([name.encode() for name in names])

    ids = pl.Series([[7] * length], dtype=pl.List(pl.Int64))
    nothing, one = pl.Series([b""]), np.array([1])
    ours = wire.examples(
        {
            "item/score": wire.floats_feature(
                wire.runs(wire.floats(pl.Series(scores)), np.array([2]))
            ),
            "item/word": wire.ints_feature(wire.runs(wire.varints(ids), one)),
            "no name": wire.strings_feature(wire.runs(nothing, one)),
            "none": wire.ints_feature(wire.runs(nothing, one)),
            "query": wire.strings_feature(
                wire.runs(wire.strings(pl.Series([names])), one)
            ),
        }
    )
    assert ours.to_pylist() == [official.SerializeToString(deterministic=True)]
