"""What a split says about which items are right for which query: the levels that retrieval is judged by."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import schema, streams
from tfrs_mmse.cli import CommandError

Qrels = dict[bytes, dict[bytes, int]]
"""For each distinct folded query its judged items: item id -> level (1, 2 or 3)."""


class Request(NamedTuple):
    """One search request: the folded query, its items, and the level that each reached."""

    query: bytes
    item_id: Sequence[bytes]
    level: Sequence[int]


def deepest_levels(requests: Iterable[Request]) -> Qrels:
    """The union of each query's items over its requests, each at the deepest level that it reached in any of them.

    Queries stand in the order of their bytes, so the result does not depend on the order of the requests. A query
    without any item is left out.
    """
    qrels: Qrels = {}
    for request in requests:
        levels = qrels.setdefault(request.query, {})
        for item_id, level in zip(request.item_id, request.level, strict=True):
            levels[item_id] = max(levels.get(item_id, level), level)
    return {
        query: dict(sorted(qrels[query].items()))
        for query in sorted(qrels)
        if qrels[query]
    }


def read_qrels(data: Path, split: str) -> Qrels:
    """Reads the levels of one split's requests.

    Raises:
        CommandError: there is no such split, it cannot be read, or nobody clicked or ordered anything in it.
    """
    qrels = deepest_levels(_read_requests(data, split))
    if not any(
        level >= schema.Level.CLICKED
        for levels in qrels.values()
        for level in levels.values()
    ):
        raise CommandError(
            f"expected clicked or ordered items in the split {split!r} of {data}, but none of its {len(qrels)} queries "
            "has any: nothing can be evaluated; write examples whose split holds clicks"
        )
    return qrels


def _read_requests(data: Path, split: str) -> Iterator[Request]:
    features = {
        schema.QUERY: tf.io.FixedLenFeature([], tf.string),
        schema.ITEM_ID: tf.io.RaggedFeature(tf.string),
        schema.LEVEL: tf.io.RaggedFeature(tf.int64),
    }
    for batch in streams.read_columns(data, split, features):
        for query, item_id, level in zip(
            batch[schema.QUERY], batch[schema.ITEM_ID], batch[schema.LEVEL], strict=True
        ):
            yield Request(query, item_id.tolist(), level.tolist())
