from pathlib import Path

import pytest
import tensorflow as tf

from tfrs_mmse import schema, streams
from tfrs_mmse.cli import CommandError

FEATURES = {
    schema.QUERY: tf.io.FixedLenFeature([], tf.string),
    schema.LEVEL: tf.io.RaggedFeature(tf.int64),
}


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / f"{name}.tfrecord.gz").touch()


def write(directory: Path, name: str, *records: tuple[bytes, list[int]]) -> None:
    with tf.io.TFRecordWriter(str(directory / f"{name}.tfrecord.gz"), "GZIP") as writer:
        for query, levels in records:
            features = {
                schema.QUERY: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[query])
                ),
                schema.LEVEL: tf.train.Feature(
                    int64_list=tf.train.Int64List(value=levels)
                ),
            }
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(feature=features)
                ).SerializeToString()
            )


def test_shards_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "test-00001-of-00002",
        "train-00000-of-00001",
        "test-00000-of-00002",
        "test-old",
        "xtest-0-of-1",
    )
    assert [Path(f).name for f in streams.stream_files(tmp_path, schema.TEST)] == [
        "test-00000-of-00002.tfrecord.gz",
        "test-00001-of-00002.tfrecord.gz",
    ]


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"expected a directory of examples, but .*nowhere is none"
    ):
        streams.stream_files(tmp_path / "nowhere", schema.TEST)


def test_a_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train-00000-of-00001")
    with pytest.raises(
        CommandError,
        match=r"stream 'test' in .* there is no test-\*-of-\*\.tfrecord\.gz",
    ):
        streams.stream_files(tmp_path, schema.TEST)


def test_missing_shards_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "test-00001-of-00006")
    with pytest.raises(
        CommandError,
        match=r"expected 6 shards .* found 1: test-00000-of-00006.*-00003-of-00006\.tfrecord\.gz and 2 more",
    ):
        streams.stream_files(tmp_path, schema.TEST)


def test_a_shard_number_beyond_the_count_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "test-00000-of-00001", "test-00001-of-00001")
    with pytest.raises(CommandError, match=r"expected 1 shards of 'test' .* found 2"):
        streams.stream_files(tmp_path, schema.TEST)


def test_two_sets_of_shards_side_by_side_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "test-00000-of-00001", "test-00000-of-00002", "test-00001-of-00002")
    with pytest.raises(
        CommandError,
        match="found -of-00001 and -of-00002; remove those of the older run",
    ):
        streams.stream_files(tmp_path, schema.TEST)


def test_columns_are_read_over_all_shards_and_empty_lists_stay_empty(
    tmp_path: Path,
) -> None:
    write(tmp_path, "test-00000-of-00003", (b"a", [3, 1]), (b"b", []))
    write(tmp_path, "test-00001-of-00003")
    write(tmp_path, "test-00002-of-00003", (b"c", [2]))
    batches = list(streams.read_columns(tmp_path, schema.TEST, FEATURES))
    assert [query for batch in batches for query in batch[schema.QUERY]] == [
        b"a",
        b"b",
        b"c",
    ]
    assert [level.tolist() for batch in batches for level in batch[schema.LEVEL]] == [
        [3, 1],
        [],
        [2],
    ]


def test_a_file_that_was_cut_off_is_refused_in_one_sentence(tmp_path: Path) -> None:
    write(
        tmp_path, "test-00000-of-00001", *[(b"query %d" % i, [i]) for i in range(500)]
    )
    path = tmp_path / "test-00000-of-00001.tfrecord.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        CommandError,
        match=r"cannot read the records in .*/test-00000-of-00001.tfrecord.gz \(it is cut off\): write",
    ):
        list(streams.read_columns(tmp_path, schema.TEST, FEATURES))


def test_records_without_a_feature_are_refused_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, "test-00000-of-00001", (b"a", [1]))
    with pytest.raises(CommandError, match=r"cannot read the records in .*item/title"):
        list(
            streams.read_columns(
                tmp_path,
                schema.TEST,
                {schema.TITLE: tf.io.FixedLenFeature([], tf.string)},
            )
        )
