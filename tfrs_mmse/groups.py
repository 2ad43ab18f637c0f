"""Groups of held-out queries and items, by what the train split knows of them: where a system is strong or weak.

Queries, each with recall and NDCG:

- `seen`, `unseen`: whether the folded query occurs in the train split.
- `head`, `torso`, `tail`: by traffic, which is a query's number of train requests; if no query of the split has any
  (a split by query), its number of held-out requests. The queries stand by falling traffic, those with equal traffic as
  one block; blocks whose middle lies in the first half of the whole traffic are the head, in the next 30% the torso,
  beyond that the tail. So a query is never apart from another of the same traffic, and queries without any are tail.

Relevant items, each with the recall of those items alone:

- `new_items`: no train record holds them. (Shown items that the policy for unclicked ones dropped are in no record.)
- `items_without_clicks`: no train request clicked or ordered them; the new ones among them.
- `items_with_clicks`: the others.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import schema, streams
from tfrs_mmse.relevance import Qrels

HEAD_SHARE, TORSO_SHARE = 0.5, 0.8  # of the traffic, cumulated from the most frequent


class History(NamedTuple):
    """What a split knows of given queries and items.

    Attributes:
        num_requests: Requests by query; a query without any is missing.
        shown: Those of the items that a request holds.
        clicked: Those of the items that a request clicked or ordered.
    """

    num_requests: dict[bytes, int]
    shown: set[bytes]
    clicked: set[bytes]


class Groups(NamedTuple):
    """The groups of a split.

    Attributes:
        queries: [Q] bool by name: which queries, in the order of the judgements, are in it.
        items: By name: those of the judged items that are in it.
    """

    queries: dict[str, np.ndarray]
    items: dict[str, set[bytes]]


def read_groups(
    train_data: Path | None, held_out: Path, split: str, qrels: Qrels
) -> Groups:
    """Groups the queries and the relevant items of a split.

    Args:
        train_data: Directory of the examples whose train requests are known; None: there are none, and everything is
            unseen and new.
        held_out: Directory of the examples whose split is evaluated.
        split: The split.
        qrels: Its levels.
    """
    items = {item_id for levels in qrels.values() for item_id in levels}
    train = (
        read_history(train_data, schema.TRAIN, qrels, items)
        if train_data
        else History({}, set(), set())
    )
    num_train = _counts(train, qrels)
    traffic = (
        num_train
        if num_train.any()
        else _counts(read_history(held_out, split, qrels, items), qrels)
    )
    return Groups(
        queries={
            "seen": num_train > 0,
            "unseen": num_train == 0,
            **traffic_groups(traffic),
        },
        items={
            "new_items": items - train.shown,
            "items_without_clicks": items - train.clicked,
            "items_with_clicks": train.clicked,
        },
    )


def read_history(
    data: Path, split: str, queries: Iterable[bytes], items: set[bytes]
) -> History:
    """Reads once through a split; the memory it takes is that of `queries` and `items`.

    Args:
        data: Directory of examples.
        split: The split.
        queries: The queries asked for.
        items: The items asked for.
    """
    num_requests = dict.fromkeys(queries, 0)
    shown: set[bytes] = set()
    clicked: set[bytes] = set()
    features = {
        schema.QUERY: tf.io.FixedLenFeature([], tf.string),
        schema.ITEM_ID: tf.io.RaggedFeature(tf.string),
        schema.LEVEL: tf.io.RaggedFeature(tf.int64),
    }
    for batch in streams.read_columns(data, split, features):
        for query in batch[schema.QUERY]:
            if query in num_requests:
                num_requests[query] += 1
        item_id = np.concatenate(batch[schema.ITEM_ID])
        level = np.concatenate(batch[schema.LEVEL])
        shown |= items.intersection(item_id.tolist())
        clicked |= items.intersection(item_id[level >= schema.Level.CLICKED].tolist())
    return History({query: n for query, n in num_requests.items() if n}, shown, clicked)


def traffic_groups(traffic: np.ndarray) -> dict[str, np.ndarray]:
    """Head, torso and tail, as the module defines them.

    Args:
        traffic: [Q] requests of each query, not all 0.

    Returns:
        [Q] bool by name; every query is in exactly one.
    """
    _, block = np.unique(-traffic, return_inverse=True)
    share = np.bincount(block, weights=traffic) / traffic.sum()
    middle = (np.cumsum(share) - share / 2)[block]
    head, tail = middle < HEAD_SHARE, middle >= TORSO_SHARE
    return {"head": head, "torso": ~head & ~tail, "tail": tail}


def _counts(history: History, queries: Iterable[bytes]) -> np.ndarray:
    return np.array([history.num_requests.get(q, 0) for q in queries], np.int64)
