"""Exact retrieval from the whole corpus: the k best items of each query, by blocks, in bounded memory."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

_MAX_INDEX = np.int64(2**31 - 1)
_NOTHING = np.iinfo(np.int64).min  # sorts below the key of every score
_STRIP = 256  # queries whose scores are looked through at once


class SearchResult(NamedTuple):
    """The best items of each query, best first; items that score the same stand in the order of their rows.

    Attributes:
        index: [Q, k'] int32 rows of the items; -1 where a query has fewer than k' results.
        score: [Q, k'] float32, descending; -inf where a query has fewer than k' results.
    """

    index: np.ndarray  # type: ignore[assignment]  # nobody needs the tuple method of this name
    score: np.ndarray


def top_k(
    query_embedding: np.ndarray,
    item_embedding: np.ndarray,
    k: int,
    *,
    query_block: int = 2048,
    item_block: int = 4096,
) -> SearchResult:
    """The k items with the largest inner product with each query, exactly.

    Each block of products is compared once with the k-th best score that its queries have so far, and only the few
    that are better are looked at again: beside the matrix products everything else costs little. Items whose scores
    ascend with their rows are the slow case, about five times the time, where every block has to be sorted in; memory
    is bounded there too.

    Beside its arguments, its result and a copy of one block of either embedding this takes at most
    `(20 * query_block + 64 * min(query_block, 256)) * (item_block + k)` bytes: 280 MiB by default and with k = 1000.
    Scores are float32 sums, whose last bit can depend on the block a row falls into.

    Args:
        query_embedding: [Q, D] float32.
        item_embedding: [N, D] float32, fewer than 2**31 items.
        k: Results per query, positive; k' = min(k, N) are returned.
        query_block: Queries worked on at once, at most.
        item_block: Items worked on at once, at most.

    Raises:
        ValueError: shapes that do not fit, k or a block below 1, embeddings that are not finite, or so large that
            their products might not be.
    """
    for name, value in (
        ("k", k),
        ("query_block", query_block),
        ("item_block", item_block),
    ):
        if value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    _check(query_embedding, item_embedding)
    num_queries, num_items = len(query_embedding), len(item_embedding)
    k = min(k, num_items)
    result = SearchResult(
        np.empty((num_queries, k), np.int32), np.empty((num_queries, k), np.float32)
    )
    if not num_queries or not num_items:
        return result
    query_block, item_block = min(query_block, num_queries), min(item_block, num_items)
    # A block is as large as the matrix product likes it, a strip of it as small as the processor's cache does.
    for first_query in range(0, num_queries, query_block):
        query = query_embedding[first_query : first_query + query_block]
        strips = [
            slice(row, min(row + _STRIP, len(query)))
            for row in range(0, len(query), _STRIP)
        ]
        best = [_Best(s.stop - s.start, num_items, k, item_block) for s in strips]
        first_item = 0
        while first_item < num_items:
            # Never more than were seen before: against a few, most of a large block would be better.
            next_item = first_item + min(max(first_item, 2 * k), item_block)
            scores = _inner_products(query, item_embedding[first_item:next_item])
            for strip, best_of_strip in zip(strips, best, strict=True):
                best_of_strip.add(scores[strip], first_item)
            first_item = next_item
        for strip, best_of_strip in zip(strips, best, strict=True):
            rows = slice(first_query + strip.start, first_query + strip.stop)
            result.index[rows], result.score[rows] = best_of_strip.result()
    return result


def best_of(scores: np.ndarray, k: int) -> SearchResult:
    """The k best items of each query from scores that are there already, under the same rule for ties.

    Args:
        scores: [Q, N] float32; -inf marks an item that is no result.
        k: Results per query, positive; k' = min(k, N) are returned.
    """
    k = min(k, scores.shape[1])
    keys = _keys(scores, np.arange(scores.shape[1]))
    result = _decode(np.sort(_largest(keys, k), axis=1)[:, ::-1])
    result.index[np.isneginf(result.score)] = -1
    return result


def ordinals(scores: np.ndarray) -> np.ndarray:
    """Numbers float32 values in their order: float32 -> int32, neighbouring values have neighbouring numbers.

    0.0 and -0.0 are one value and have one number, 0.
    """
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32)
    return np.where(bits < 0, np.int32(-(2**31)) - bits, bits)


def from_ordinals(numbers: np.ndarray) -> np.ndarray:
    """The float32 values with these numbers: int32 -> float32."""
    return (
        np.where(numbers < 0, np.int32(-(2**31)) - numbers, numbers)
        .astype(np.int32)
        .view(np.float32)
    )


def _inner_products(query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """[Q, D] and [N, D] -> [Q, N] float32.

    By TensorFlow, whose threads share the work as they come; NumPy's wait for each other, which costs twice the time
    when anything else runs on the machine. On the CPU, since a GPU may round the factors (TF32).
    """
    with tf.device("CPU"):
        query, item = (tf.convert_to_tensor(x, tf.float32) for x in (query, item))
        return np.asarray(tf.linalg.matmul(query, item, transpose_b=True))


class _Best:
    """The best items so far of a few queries, which see the items in ascending order of their rows.

    A query's list may grow to twice k before it is cut back to k: cutting costs less than once an item then, and the
    score that an item has to beat is late by little.
    """

    def __init__(self, num_queries: int, num_items: int, k: int, item_block: int):
        """Starts with no items; at most `item_block` can be added at once, and `num_items` >= k in all."""
        self._k = k
        self._keys = np.empty(
            (num_queries, min(2 * k + item_block, num_items)), np.int64
        )
        self._filled = np.zeros(num_queries, np.int64)
        self._to_beat = np.full((num_queries, 1), -np.inf, np.float32)

    def add(self, scores: np.ndarray, first_index: int) -> None:
        """Takes in the next items.

        Args:
            scores: [Q, n] float32, finite, contiguous.
            first_index: Row of the first of these items.
        """
        # An item that only ties with the k-th best has the higher row of the two: it loses.
        places = np.flatnonzero(scores > self._to_beat)
        first_places = np.arange(len(scores)) * scores.shape[1]
        starts = np.searchsorted(places, first_places)
        counts = np.diff(starts, append=len(places))
        index = places - np.repeat(first_places - first_index, counts)
        keys = _keys(scores.reshape(-1)[places], index)
        # Key number i of those found goes behind its query's list, which is so far from i in the table.
        ends = np.arange(len(scores)) * self._keys.shape[1] + self._filled
        where = np.arange(len(places))
        where += np.repeat(ends - starts, counts)
        self._keys.reshape(-1)[where] = keys
        self._filled += counts
        self._cut(np.flatnonzero(self._filled >= 2 * self._k))

    def result(self) -> SearchResult:
        """The k best of all items added, which must be k at least."""
        self._cut(np.arange(len(self._filled)))
        return _decode(np.sort(self._keys[:, : self._k], axis=1)[:, ::-1])

    def _cut(self, queries: np.ndarray) -> None:
        if not len(queries):
            return
        filled = self._filled[queries]
        keys = self._keys[queries, : filled.max()]
        keys[np.arange(keys.shape[1]) >= filled[:, None]] = _NOTHING
        best = _largest(keys, self._k)
        self._keys[queries, : self._k] = best
        self._filled[queries] = self._k
        self._to_beat[queries, 0] = _decode(best.min(axis=1)).score


def _keys(scores: np.ndarray, index: np.ndarray) -> np.ndarray:
    """One int64 for each score that sorts by score, then by lower index: no two are equal, no tie is open."""
    keys = ordinals(scores).astype(np.int64)
    keys <<= 32
    keys |= _MAX_INDEX - index
    return keys


def _decode(keys: np.ndarray) -> SearchResult:
    index = _MAX_INDEX - (keys & np.int64(2**32 - 1))
    return SearchResult(
        index.astype(np.int32), from_ordinals((keys >> 32).astype(np.int32))
    )


def _largest(keys: np.ndarray, k: int) -> np.ndarray:
    if keys.shape[1] <= k:
        return keys
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]


def _check(query_embedding: np.ndarray, item_embedding: np.ndarray) -> None:
    if (
        query_embedding.ndim != 2
        or item_embedding.ndim != 2
        or query_embedding.shape[1] != item_embedding.shape[1]
    ):
        raise ValueError(
            "query_embedding and item_embedding must be [Q, D] and [N, D], "
            f"got shapes {query_embedding.shape} and {item_embedding.shape}"
        )
    largest = float(query_embedding.shape[1])  # that a product can be
    for name, embedding in (
        ("query_embedding", query_embedding),
        ("item_embedding", item_embedding),
    ):
        if embedding.size:
            # The extremes of an array with NaN are NaN; np.isfinite(embedding) would take memory for every element.
            extremes = np.array([embedding.min(), embedding.max()], np.float64)
            if not np.isfinite(extremes).all():
                raise ValueError(f"{name} must be finite, got NaN or infinite values")
            largest *= np.abs(extremes).max()
    if largest > np.finfo(np.float32).max / 2:
        raise ValueError(
            f"inner products must fit into float32, but these could be as large as {largest:.0e}: "
            "scale the embeddings down"
        )
