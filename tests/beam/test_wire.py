"""The bytes of examples: what the official implementation reads from them, and what it would have written."""

import polars as pl
import pytest
import tensorflow as tf

from beam import wire
from beam.wire import Pieces

INT64 = (0, 1, 127, 128, 16_383, 16_384, 2**31 - 1, 2**62, 2**63 - 1, -1, -(2**63))


def test_a_varint_is_that_of_the_specification() -> None:
    (piece,) = wire.varints(pl.Series([150]))  # the specification's own example
    assert piece == b"\x96\x01"


@pytest.mark.parametrize("number", INT64)
def test_every_integer_is_read_as_it_was(number: int) -> None:
    (piece,) = wire.varints(pl.Series([number]))
    feature = tf.train.Feature.FromString(wire.ints_feature(piece))
    assert list(feature.int64_list.value) == [number]


def test_runs_of_pieces_are_the_lists_together() -> None:
    lists = pl.Series([[300, 1], [], [-1], [5]], dtype=pl.List(pl.Int64))
    pieces = Pieces(wire.varints(lists))

    def read(begin: int, end: int) -> list[int]:
        feature = wire.ints_feature(pieces.run(begin, end))
        return list(tf.train.Feature.FromString(feature).int64_list.value)

    assert read(0, 4) == [300, 1, -1, 5]
    assert read(1, 2) == [] == read(2, 2)
    assert read(1, 3) == [-1]


@pytest.mark.parametrize("text", ["", "a", "é北", "x" * 127, "x" * 128, "é" * 64])
def test_every_string_is_read_as_it_was(text: str) -> None:
    alone, beside = wire.strings(pl.Series([text, "b"]))
    listed, none = wire.strings(pl.Series([[text, "b"], []]))
    feature = tf.train.Feature.FromString(wire.strings_feature(alone + beside))
    assert list(feature.bytes_list.value) == [text.encode(), b"b"]
    assert (listed, none) == (alone + beside, b"")


def test_a_slice_of_a_column_has_its_own_rows() -> None:
    column = wire.strings(pl.Series(["a", "bc", "d", "e"]))
    assert Pieces(column[1:3]).run(0, 2) == b"\x0a\x02bc\x0a\x01d"
    assert (
        Pieces(pl.concat([column[3:], column[:1]])).run(0, 2) == b"\x0a\x01e\x0a\x01a"
    )


def test_columns_without_rows_have_no_bytes() -> None:
    for column in (
        wire.varints(pl.Series([], dtype=pl.Int32)),
        wire.varints(pl.Series([], dtype=pl.List(pl.Int32))),
        wire.floats(pl.Series([], dtype=pl.Float32)),
        wire.strings(pl.Series([], dtype=pl.String)),
    ):
        assert (column.dtype, len(column)) == (pl.Binary, 0)
        assert Pieces(column).run(0, 0) == b""


@pytest.mark.parametrize("length", [0, 1, 60, 127, 128, 20_000, 3_000_000])
def test_an_example_is_the_one_that_the_official_implementation_writes(
    length: int,
) -> None:
    names = ["é" * 3, "query"]
    ids, scores = [7] * length, [0.5, -1e30]
    official = tf.train.Example()
    feature = official.features.feature
    feature["item/word"].int64_list.value.extend(ids)
    feature["none"].int64_list.value.extend([])
    feature["no name"].bytes_list.value.extend([])
    feature["query"].bytes_list.value.extend([name.encode() for name in names])
    feature["item/score"].float_list.value.extend(scores)
    ours = wire.example(
        {
            "query": wire.strings_feature(wire.strings(pl.Series([names]))[0]),
            "item/word": wire.ints_feature(wire.varints(pl.Series([ids]))[0])
            if length
            else wire.ints_feature(b""),
            "item/score": wire.floats_feature(
                Pieces(wire.floats(pl.Series(scores))).run(0, 2)
            ),
            "none": wire.ints_feature(b""),
            "no name": wire.strings_feature(b""),
        }
    )
    assert ours == official.SerializeToString(deterministic=True)
