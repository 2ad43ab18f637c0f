"""The queries that early stopping validates with: chosen by a hash, left out of training, read once at its start."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.streams import stream_files

NUM_QUERIES = 1000  # that a sample holds, about
_MAX_REQUESTS = 4096  # of a sample
_TRAINING_SAMPLE = 256  # requests
_BUCKETS = 2**40
_KEY = [0x76616C69, 0x64617465]  # another hash than that which sorts records
_RECORDS = 1024  # parsed at once


class Holdout(NamedTuple):
    """What is left out of training.

    Attributes:
        num_training: Requests that are trained on.
        sample: [R] serialized request records to validate with: those of about `NUM_QUERIES` of the queries that are
            left out, or of all of them, that have something to find.
    """

    num_training: int
    sample: tf.Tensor


def is_held_out(query: tf.Tensor, share: float) -> tf.Tensor:
    """Which queries are left out of training.

    It depends on the query alone, not on the seed: a query's requests go together, runs can be compared, and a smaller
    share's queries are among those of a larger one.

    Args:
        query: [B] folded query strings.
        share: Of the distinct queries, from 0 to 1.

    Returns:
        [B] bool.
    """
    bucket = tf.strings.to_hash_bucket_strong(query, _BUCKETS, _KEY)
    return bucket < round(share * _BUCKETS)


def training_records(records: tf.data.Dataset, config: TrainConfig) -> tf.data.Dataset:
    """The request records that the config trains on, in their order: all, or those of queries that are not held out."""
    if not config.patience:
        return records

    def left(serialized: tf.Tensor) -> tf.Tensor:
        out = is_held_out(_query(serialized), config.validation_share)
        return tf.boolean_mask(serialized, ~out)

    batches = records.batch(_RECORDS)
    return batches.map(left, num_parallel_calls=2, deterministic=True).unbatch()


def read(
    config: TrainConfig,
    data: Path,
    *,
    num_queries: int,
    left_out: Collection[str] = (),
) -> Holdout:
    """Counts what is left to train on, and takes the records to validate with: one pass over the training requests.

    Args:
        config: The training config.
        data: Directory of examples.
        num_queries: Distinct queries in training, held-out ones among them.
        left_out: Names of shards that are not read.

    Raises:
        CommandError: the share leaves nothing to train on, or nothing to validate with.
    """
    share = config.validation_share
    sampled = min(share, NUM_QUERIES / max(num_queries, 1))

    def split(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = {schema.QUERY_POSITIVES: tf.io.RaggedFeature(tf.string)}
        positives = tf.io.parse_example(serialized, features)[schema.QUERY_POSITIVES]
        query = _query(serialized)
        num_left = tf.math.count_nonzero(~is_held_out(query, share))
        to_find = is_held_out(query, sampled) & (positives.row_lengths() > 0)
        return num_left, tf.boolean_mask(serialized, to_find)

    batches = records_of(data, schema.TRAIN, left_out).batch(_RECORDS)
    num_training, sample, size = 0, [], 0
    for num_left, records in batches.map(split, num_parallel_calls=2).prefetch(2):
        num_training += int(num_left)
        if size < _MAX_REQUESTS:
            sample.append(records.numpy())
            size += len(sample[-1])
    if not num_training or not size:
        what = "train on" if not num_training else "validate with"
        raise CommandError(
            f"validation_share {share:g} of the {num_queries} distinct queries in {data} leaves nothing to {what}: "
            f"give a {'smaller' if not num_training else 'larger'} one, or patience 0"
        )
    return Holdout(num_training, tf.constant(np.concatenate(sample)[:_MAX_REQUESTS]))


def training_sample(data: Path, left_out: Collection[str] = ()) -> tf.Tensor:
    """[R] serialized request records that are trained on: the first."""
    return next(iter(records_of(data, schema.TRAIN, left_out).batch(_TRAINING_SAMPLE)))


def records_of(
    data: Path, stream: str, left_out: Collection[str] = ()
) -> tf.data.Dataset:
    """The serialized records of a stream, in the order of the files, which is a random one."""
    files = stream_files(data, stream, left_out=left_out)
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def _query(serialized: tf.Tensor) -> tf.Tensor:
    features = {schema.QUERY: tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_example(serialized, features)[schema.QUERY]
