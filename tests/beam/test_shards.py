"""Files that are whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from beam.shards import write_records, write_text
from tfrs_mmse.cli import CommandError


def test_records_come_back_and_their_file_has_the_same_bytes_every_time(
    tmp_path: Path,
) -> None:
    records = [f"record {n}".encode() * 50 for n in range(100)]
    paths = [tmp_path / "sub" / "a.tfrecord.gz", tmp_path / "b.tfrecord.gz"]
    for path in paths:
        write_records(str(path), iter(records))
    read = tf.data.TFRecordDataset(str(paths[0]), compression_type="GZIP")
    assert [record.numpy() for record in read] == records
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_without_records_is_an_empty_file_of_records(tmp_path: Path) -> None:
    write_records(str(tmp_path / "a.gz"), [])
    assert (
        list(tf.data.TFRecordDataset(str(tmp_path / "a.gz"), compression_type="GZIP"))
        == []
    )


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    write_records(str(path), [b"old"])
    before = path.read_bytes()

    def breaks() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(str(path), breaks())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_text(str(path), "é\n")
    assert path.read_bytes() == "é\n".encode()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=r"cannot write .*/file/x.txt"):
        write_text(f"{tmp_path}/file/x.txt", "")
