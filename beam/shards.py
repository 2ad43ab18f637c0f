"""Sinks: files that are whole or not there, and hold the same bytes for the same records."""

import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfrs_mmse.cli import CommandError

PART = ".part"  # how the name of a file ends that somebody is still writing


def shard_name(stream: str, shard: int, num_shards: int, ending: str) -> str:
    return f"{stream}-{shard:05d}-of-{num_shards:05d}{ending}"


def write_records(path: str, records: Iterable[bytes]) -> None:
    """Writes a gzip TFRecord file.

    Raises:
        CommandError: it cannot be written.
    """
    # The lowest level: the files are a tenth larger than at the usual one, and written twice as fast.
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)

    def write(local: Path) -> None:
        with tf.io.TFRecordWriter(str(local), options) as writer:
            for record in records:
                writer.write(record)

    _write(path, write)


def write_parquet(path: str, table: pa.Table, *, uncompressed: str) -> None:
    """Writes a Parquet file.

    Args:
        path: Where to, on any file system that Beam knows.
        table: What to write.
        uncompressed: The column whose values no compression makes smaller.

    Raises:
        CommandError: it cannot be written.
    """
    packed = [name for name in table.column_names if name != uncompressed]
    compression = {**dict.fromkeys(packed, "zstd"), uncompressed: "none"}
    _write(
        path,
        lambda local: pq.write_table(
            table, local, compression=compression, use_dictionary=False
        ),
    )


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file with LF line ends to any path that Beam's filesystems know.

    Raises:
        CommandError: it cannot be written.
    """
    _write(path, lambda local: local.write_bytes(text.encode("utf-8")))


def _write(path: str, write: Callable[[Path], object]) -> None:
    """Makes a file here, copies it beside its place under another name, and renames it.

    A runner may do one piece of work twice, at the same time even: whoever is last replaces a file by the same bytes.
    """
    part = f"{path}.{uuid.uuid4().hex}{PART}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "file"
            write(local)
            with (
                local.open("rb") as source,
                FileSystems.create(
                    part, compression_type=CompressionTypes.UNCOMPRESSED
                ) as target,
            ):
                while block := source.read(1 << 20):
                    target.write(block)
        FileSystems.rename([part], [path])
    except (OSError, BeamIOError, tf.errors.OpError) as e:
        raise CommandError(f"cannot write {path}: {e}") from None
