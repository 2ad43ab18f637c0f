from pathlib import Path

import pytest
import tensorflow as tf

from tfrs_mmse import relevance, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.relevance import Request


def write(directory: Path, *requests: Request) -> None:
    with tf.io.TFRecordWriter(
        str(directory / "test-00000-of-00001.tfrecord.gz"), "GZIP"
    ) as writer:
        for request in requests:
            features = {
                schema.QUERY: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[request.query])
                ),
                schema.ITEM_ID: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=request.item_id)
                ),
                schema.LEVEL: tf.train.Feature(
                    int64_list=tf.train.Int64List(value=request.level)
                ),
            }
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(feature=features)
                ).SerializeToString()
            )


def test_a_query_has_the_union_of_its_items_at_their_deepest_levels() -> None:
    requests = [
        Request(b"nuts", [b"a", b"b", b"c"], [2, 1, 1]),
        Request(b"bolts", [b"a"], [1]),
        Request(b"nuts", [b"a", b"b", b"d"], [1, 3, 2]),
    ]
    assert relevance.deepest_levels(requests) == {
        b"bolts": {b"a": 1},
        b"nuts": {b"a": 2, b"b": 3, b"c": 1, b"d": 2},
    }


def test_the_order_of_requests_does_not_matter() -> None:
    requests = [
        Request(b"nuts", [b"b", b"a"], [2, 1]),
        Request(b"bolts", [b"z"], [1]),
        Request(b"nuts", [b"0"], [3]),
    ]
    one, other = (
        relevance.deepest_levels(requests),
        relevance.deepest_levels(requests[::-1]),
    )
    assert [(q, list(levels.items())) for q, levels in one.items()] == [
        (b"bolts", [(b"z", 1)]),
        (b"nuts", [(b"0", 3), (b"a", 1), (b"b", 2)]),
    ]
    assert str(one) == str(other)


def test_a_query_without_items_is_left_out() -> None:
    assert relevance.deepest_levels([Request(b"nuts", [], [])]) == {}


def test_reads_the_records_of_a_split(tmp_path: Path) -> None:
    write(
        tmp_path,
        Request("maçã".encode(), [b"a", b"b"], [1, 2]),
        Request(b"empty", [], []),
    )
    assert relevance.read_qrels(tmp_path, "test") == {
        "maçã".encode(): {b"a": 1, b"b": 2}
    }


def test_a_split_in_which_nobody_clicked_is_refused(tmp_path: Path) -> None:
    write(tmp_path, Request(b"nuts", [b"a"], [1]), Request(b"bolts", [b"a"], [1]))
    with pytest.raises(
        CommandError,
        match=r"expected clicked or ordered items in the split 'test' .* its 2 queries",
    ):
        relevance.read_qrels(tmp_path, "test")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(CommandError, match="none of its 0 queries has any"):
        relevance.read_qrels(tmp_path, "test")
