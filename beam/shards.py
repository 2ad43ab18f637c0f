"""Sinks that give the same bytes for the same records, whatever the runner, the number of workers and their order."""

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfrs_mmse.cli import CommandError

# Plain types, which Beam encodes fast.
# Shard, (order in the shard, serialised record).
KeyedRecord = tuple[int, tuple[bytes, bytes]]


def shard_key(identity: str, num_shards: int) -> tuple[int, bytes]:
    """The shard of a record and its place in it: by hash, so that records are shuffled, the same way every time."""
    digest = hashlib.sha256(identity.encode("utf-8")).digest()
    return int.from_bytes(digest[:8]) % num_shards, digest


def shard_name(stream: str, shard: int, num_shards: int, ending: str) -> str:
    return f"{stream}-{shard:05d}-of-{num_shards:05d}{ending}"


class WriteRecords(beam.PTransform):
    """Writes records as gzip TFRecord shards, sorted by their keys; a shard without records is a file, too."""

    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._output, self._stream, self._num_shards = output, stream, num_shards

    def expand(self, records: beam.PCollection[KeyedRecord]) -> beam.PCollection[str]:
        # A key for each shard, so that there is a file for it even when no record falls into it.
        seeds = records.pipeline | "NameShards" >> beam.Create(
            [(shard, (b"", b"")) for shard in range(self._num_shards)], reshuffle=False
        ).with_output_types(KeyedRecord)
        return (
            (records, seeds)
            | "WithAllShards" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShards"
            >> beam.ParDo(_WriteRecordsFn(self._output, self._stream, self._num_shards))
        )


class WriteLines(beam.PTransform):
    """Writes lines of text as plain shards, sorted by their keys; a shard without lines is no file."""

    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._output, self._stream, self._num_shards = output, stream, num_shards

    def expand(
        self, lines: beam.PCollection[tuple[int, tuple[Any, str]]]
    ) -> beam.PCollection[str]:
        return (
            lines
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShards"
            >> beam.ParDo(_WriteLinesFn(self._output, self._stream, self._num_shards))
        )


class _WriteRecordsFn(beam.DoFn):
    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._output, self._stream, self._num_shards = output, stream, num_shards

    def process(
        self, element: tuple[int, Iterable[tuple[bytes, bytes]]]
    ) -> Iterator[str]:
        shard, keyed = element
        path = FileSystems.join(
            self._output,
            shard_name(self._stream, shard, self._num_shards, ".tfrecord.gz"),
        )
        # TensorFlow frames the records (it has the fast checksum), Beam's filesystems take them where they belong.
        with tempfile.TemporaryDirectory() as folder:
            framed = Path(folder) / "records"
            with tf.io.TFRecordWriter(str(framed)) as writer:
                for _, record in sorted(pair for pair in keyed if pair[0]):
                    writer.write(record)
            with (
                framed.open("rb") as records,
                create(path) as file,
                gzip.GzipFile(
                    filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0
                ) as zipped,
            ):
                shutil.copyfileobj(records, zipped, length=1 << 20)
        yield path


class _WriteLinesFn(beam.DoFn):
    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._output, self._stream, self._num_shards = output, stream, num_shards

    def process(self, element: tuple[int, Iterable[tuple[Any, str]]]) -> Iterator[str]:
        shard, keyed = element
        path = FileSystems.join(
            self._output, shard_name(self._stream, shard, self._num_shards, ".jsonl")
        )
        write_text(path, "".join(f"{line}\n" for _, line in sorted(keyed)))
        yield path


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file with LF line ends to any path that Beam's filesystems know."""
    with create(path) as file:
        file.write(text.encode("utf-8"))


def create(path: str) -> BinaryIO:
    """Opens a new file as it is, without the compression that Beam would read off its name.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except (OSError, BeamIOError) as e:
        raise CommandError(f"cannot write {path}: {e}") from None
