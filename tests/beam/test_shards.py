"""Shards hold the same bytes for the same records, in whatever order these arrive."""

import hashlib
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline

from beam.shards import WriteRecords, create, shard_key
from tfrs_mmse.cli import CommandError


def write(
    records: list[tuple[int, tuple[bytes, bytes]]], output: Path
) -> dict[str, bytes]:
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create(records)
            | WriteRecords(str(output), "train", num_shards=2)
        )
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_records_are_sorted_inside_their_shard_and_bytes_are_the_same(
    tmp_path: Path,
) -> None:
    records = [(1, (bytes([n]), f"record {n}".encode() * 50)) for n in (3, 1, 2)]
    files = write(records, tmp_path / "a")
    assert files == write(records[::-1], tmp_path / "b")
    path = str(tmp_path / "a" / "train-00001-of-00002.tfrecord.gz")
    read = [
        record.numpy()
        for record in tf.data.TFRecordDataset(path, compression_type="GZIP")
    ]
    assert read == [f"record {n}".encode() * 50 for n in (1, 2, 3)]


def test_a_shard_without_records_is_an_empty_file_of_records(tmp_path: Path) -> None:
    files = write([], tmp_path)
    assert sorted(files) == [
        "train-00000-of-00002.tfrecord.gz",
        "train-00001-of-00002.tfrecord.gz",
    ]
    paths = [str(tmp_path / name) for name in files]
    assert list(tf.data.TFRecordDataset(paths, compression_type="GZIP")) == []


def test_a_record_goes_where_the_hash_of_its_id_says() -> None:
    digest = hashlib.sha256("ação".encode()).digest()
    # 256 is a multiple of 8: only the last byte counts.
    assert shard_key("ação", 8) == (
        digest[7] % 8,
        digest,
    )


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=r"cannot write .*/file/x.txt"):
        create(f"{tmp_path}/file/x.txt")
