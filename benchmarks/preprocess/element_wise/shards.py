"""Records sorted into shards, one by one."""

import hashlib
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam.shards import shard_name, write_records

# Shard, (order in the shard, serialised record).
KeyedRecord = tuple[int, tuple[bytes, bytes]]


def shard_key(identity: str, num_shards: int) -> tuple[int, bytes]:
    """The shard of a record and its place in it, by hash."""
    digest = hashlib.sha256(identity.encode("utf-8")).digest()
    return int.from_bytes(digest[:8]) % num_shards, digest


class WriteRecords(beam.PTransform):
    """Writes records as TFRecord shards, sorted by their keys; a shard without records is no file."""

    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._fn = _WriteFn(output, stream, num_shards)

    def expand(self, records: beam.PCollection[KeyedRecord]) -> beam.PCollection[str]:
        return (
            records
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShards" >> beam.ParDo(self._fn)
        )


class _WriteFn(beam.DoFn):
    def __init__(self, output: str, stream: str, num_shards: int) -> None:
        super().__init__()
        self._output, self._stream, self._num_shards = output, stream, num_shards

    def process(
        self, element: tuple[int, Iterable[tuple[bytes, bytes]]]
    ) -> Iterator[str]:
        shard, keyed = element
        name = shard_name(self._stream, shard, self._num_shards, ".tfrecord.gz")
        path = f"{self._output}/{name}"
        write_records(path, (record for _, record in sorted(keyed)))
        yield path
