"""The record files of an examples' directory, by stream: the splits and the catalogue."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_mmse.cli import CommandError
from tfrs_mmse.shards import naming_unreadable

_SHARD = re.compile(r"-(\d{5,})-of-(\d{5,})\.tfrecord\.gz")


def stream_files(
    data: Path, stream: str, *, left_out: Collection[str] = ()
) -> list[str]:
    """The shards of one stream, in order: `train-00000-of-00002.tfrecord.gz`, `train-00001-of-00002.tfrecord.gz`.

    Args:
        data: The examples' directory.
        stream: `schema.TRAIN`, `schema.TEST` or `schema.ITEMS`.
        left_out: Names of shards that are there and not wanted.

    Returns:
        Their paths: every shard of one set, exactly once.

    Raises:
        CommandError: there is no directory or no shard, some are missing, or two sets of shards lie side by side.
    """
    if not data.is_dir():
        raise CommandError(
            f"expected a directory of examples, but {data} is none; write it with `beam.preprocess`"
        )
    shards: dict[
        int, dict[int, Path]
    ] = {}  # by the number of shards that the name promises, then by the shard
    for path in data.glob(f"{stream}-*-of-*.tfrecord.gz"):
        if match := _SHARD.fullmatch(path.name.removeprefix(stream)):
            shards.setdefault(int(match[2]), {})[int(match[1])] = path
    if not shards:
        raise CommandError(
            f"expected records of the stream {stream!r} in {data}, but there is no "
            f"{stream}-*-of-*.tfrecord.gz; write them with `beam.preprocess`"
        )
    if len(shards) > 1:
        counts = " and ".join(f"-of-{count:05d}" for count in sorted(shards))
        raise CommandError(
            f"expected one set of {stream!r} shards in {data}, but found {counts}; remove those of the older run"
        )
    [(count, by_number)] = shards.items()
    missing = [
        f"{stream}-{i:05d}-of-{count:05d}.tfrecord.gz"
        for i in range(count)
        if i not in by_number
    ]
    if missing or len(by_number) != count:
        named = ", ".join(missing[:3]) + (
            f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        )
        raise CommandError(
            f"expected {count} shards of {stream!r} in {data}, found {len(by_number)}: {named or 'too many'} missing; "
            "run `beam.preprocess` again"
        )
    paths = [by_number[i] for i in range(count)]
    return [str(path) for path in paths if path.name not in left_out]


def read_columns(
    data: Path, stream: str, features: Mapping[str, Any]
) -> Iterator[dict[str, Sequence[Any]]]:
    """Some features of every record of a stream, in the order of shards and records, by batches.

    Args:
        data: The examples' directory.
        stream: One of the splits, or `schema.ITEMS`.
        features: What to read: a `tf.io.FixedLenFeature([], dtype)` for a feature that every record has exactly one
            value of, a `tf.io.RaggedFeature(dtype)` for a list.

    Yields:
        For up to 1,024 records: each feature's values, one by one (fixed) or one array per record (ragged); strings
        are bytes.

    Raises:
        CommandError: no such stream (see `stream_files`), or a file that is cut off or holds other records.
    """
    import tensorflow as tf  # here, so that naming the files needs none

    def parse(batch: tf.Tensor) -> dict[str, tf.Tensor]:
        return tf.io.parse_example(batch, dict(features))

    files = stream_files(data, stream)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(1024)
    with naming_unreadable(files, parse):
        for batch in records.map(parse, num_parallel_calls=2).prefetch(2):
            yield {name: _rows(values) for name, values in batch.items()}


def _rows(values: Any) -> Sequence[Any]:
    if hasattr(values, "row_splits"):
        return np.split(values.values.numpy(), values.row_splits.numpy()[1:-1])
    return values.numpy()
