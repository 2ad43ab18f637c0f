"""Record files that are whole, and the ways in which one is not."""

import gzip
import zlib
from pathlib import Path

import pytest
import tensorflow as tf

from tfrs_mmse.shards import Damaged, Shard, examine, unreadable

RECORDS = [b"record %d " % n * n for n in range(300)]


def write(path: Path, records: list[bytes]) -> bytes:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train-00000-of-00001.tfrecord.gz"


@pytest.mark.parametrize("number", [0, 1, 300])
def test_the_records_of_a_whole_file_are_counted(path: Path, number: int) -> None:
    write(path, RECORDS[:number])
    [shard] = examine([str(path)])
    assert isinstance(shard, Shard)
    assert (shard.path, shard.num_records) == (str(path), number)


def test_a_file_of_several_gzip_members_is_read_as_tensorflow_reads_it(
    path: Path,
) -> None:
    path.write_bytes(write(path, RECORDS[:100]) + write(path, RECORDS[100:]))
    [shard] = examine([str(path)])
    assert isinstance(shard, Shard)
    assert shard.num_records == 300
    assert len(list(tf.data.TFRecordDataset(str(path), "GZIP"))) == 300


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def cut_between_records(content: bytes) -> bytes:
    """What gzip has written when it was flushed after a record: TensorFlow reads it without an error."""
    plain = gzip.decompress(content)
    length = 16 + int.from_bytes(plain[:8], "little")
    packer = zlib.compressobj(wbits=31)
    return packer.compress(plain[:length]) + packer.flush(zlib.Z_FULL_FLUSH)


DAMAGES = {
    "nothing in it": (lambda c: b"", "it is cut off"),
    "cut in the middle": (lambda c: c[: len(c) // 2], "it is cut off"),
    "cut before its last byte": (lambda c: c[:-1], "it is cut off"),
    "cut between records": (cut_between_records, "it is cut off"),
    "a byte changed": (lambda c: flipped(c, len(c) // 2), "or was changed"),
    "its checksum changed": (lambda c: flipped(c, -6), "or was changed"),
    "garbage after it": (lambda c: c + b"garbage", "or was changed"),
    "zeros after it": (lambda c: c + bytes(100), "or was changed"),
    "zeros": (lambda c: bytes(1000), "it is no gzip file"),
    "unpacked": (gzip.decompress, "it is no gzip file"),
    "other text": (lambda c: gzip.compress(b"text " * 99), "where a record ends"),
    "a record cut inside": (
        lambda c: gzip.compress(gzip.decompress(c)[:-20]),
        "where a record ends",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told(path: Path, damage: str) -> None:
    change, reason = DAMAGES[damage]
    path.write_bytes(change(write(path, RECORDS)))
    [shard] = examine([str(path)])
    assert isinstance(shard, Damaged)
    assert shard.path == str(path)
    assert reason in shard.reason


def test_a_file_that_is_not_there_or_is_a_directory_is_told(tmp_path: Path) -> None:
    gone, folder = examine([str(tmp_path / "gone"), str(tmp_path)])
    assert gone == Damaged(str(tmp_path / "gone"), "No such file or directory")
    assert folder == Damaged(str(tmp_path), "Is a directory")


def test_a_copy_of_another_file_is_damaged_unless_both_are_empty(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path, records in zip(paths, [RECORDS, [], RECORDS, []], strict=True):
        write(path, records)
    found = examine(map(str, paths))
    assert [type(shard) for shard in found] == [Shard, Shard, Damaged, Shard]
    assert found[2] == Damaged(str(paths[2]), f"it is a copy of {paths[0]}")


def test_a_whole_file_of_records_that_cannot_be_used_is_found_by_parsing(
    tmp_path: Path,
) -> None:
    whole, other = str(tmp_path / "whole"), str(tmp_path / "other")
    write(Path(whole), [b"1", b"2"])
    write(Path(other), [b"1", b"two"])
    assert all(isinstance(shard, Shard) for shard in examine([whole, other]))
    [found] = unreadable([whole, other], tf.strings.to_number)
    assert found.path == other
    assert "two" in found.reason
