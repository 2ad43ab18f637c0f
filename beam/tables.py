"""Columnar tables on their way between workers: Arrow batches, in buckets by a hash that is the same everywhere.

An element is `(bucket, bytes)`: a part of the bucket's table as an Arrow stream. Rows with one key are always in one
bucket, so that a bucket's table, once its parts are together, can be grouped and joined by itself.
"""

import io
from collections.abc import Iterable, Iterator, Mapping

import polars as pl
import tensorflow as tf

Part = tuple[int, bytes]
Schema = Mapping[str, pl.DataType | type[pl.DataType]]

_FINGERPRINTS = 2**63 - 1


def pack(frame: pl.DataFrame) -> bytes:
    """A table as a compressed Arrow stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()


def unpack(parts: Iterable[bytes], schema: Schema) -> pl.DataFrame:
    """The table that these parts make together, in no order that can be relied on; empty when there are none."""
    tables = [pl.read_ipc_stream(io.BytesIO(part)).select(*schema) for part in parts]
    return pl.concat([pl.DataFrame(schema=schema), *tables], rechunk=True)


def fingerprint(strings: pl.Series) -> pl.Series:
    """63-bit fingerprints of strings, of type Int64: the same on every machine and with every version (FarmHash)."""
    distinct = strings.unique()
    if not len(distinct):
        return pl.Series(strings.name, [], dtype=pl.Int64)
    hashed = tf.strings.to_hash_bucket_fast(
        tf.constant(distinct.to_list()), _FINGERPRINTS
    )
    return strings.replace_strict(
        distinct, pl.Series(hashed.numpy()), return_dtype=pl.Int64
    )


def bucket(strings: pl.Series, num_buckets: int) -> pl.Series:
    """The bucket of each of these keys."""
    return fingerprint(strings) % num_buckets


def partition(frame: pl.DataFrame, buckets: pl.Series) -> Iterator[Part]:
    """One part for each bucket that rows of the table fall into.

    Args:
        frame: The table.
        buckets: The bucket of each row.
    """
    if not frame.height:
        return
    parted = frame.with_columns(buckets.alias("_bucket")).partition_by(
        "_bucket", as_dict=True, include_key=False, maintain_order=True
    )
    for (number,), part in parted.items():
        yield int(number), pack(part)


def by_key(frame: pl.DataFrame, key: str, num_buckets: int) -> Iterator[Part]:
    """Parts of a table for the buckets of a column's values."""
    return partition(frame, bucket(frame[key], num_buckets))


def to_askers(frame: pl.DataFrame) -> Iterator[Part]:
    """Parts of a table of answers for the buckets in its column `asker`, without that."""
    return partition(frame.drop("asker"), frame["asker"])


def staying(frame: pl.DataFrame, number: int) -> list[Part]:
    """What stays in bucket `number` until the next step."""
    return [(number, pack(frame))] if frame.height else []
