"""Exact retrieval from the whole corpus: the k best items of each query, by blocks, in bounded memory."""

from typing import NamedTuple

import numpy as np

_MAX_INDEX = np.int64(2**31 - 1)


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
    query_block: int = 128,
    item_block: int = 16384,
) -> SearchResult:
    """The k items with the largest inner product with each query, exactly.

    Beside its arguments and its result this takes at most `36 * query_block * (item_block + k)` bytes: 80 MiB by
    default and with k = 1000. Scores are float32 sums, whose last bit can depend on the block a row falls into.

    Args:
        query_embedding: [Q, D] float32.
        item_embedding: [N, D] float32, fewer than 2**31 items.
        k: Results per query, positive; k' = min(k, N) are returned.
        query_block: Queries worked on at once.
        item_block: Items worked on at once.

    Raises:
        ValueError: shapes that do not fit, k < 1, or embeddings that are not finite.
    """
    _check(query_embedding, item_embedding, k)
    num_queries, num_items = len(query_embedding), len(item_embedding)
    k = min(k, num_items)
    result = SearchResult(
        np.empty((num_queries, k), np.int32), np.empty((num_queries, k), np.float32)
    )
    for first_query in range(0, num_queries, query_block):
        rows = slice(first_query, first_query + query_block)
        query = query_embedding[rows]
        best = np.empty((len(query), 0), np.int64)
        for first_item in range(0, num_items, item_block):
            scores = query @ item_embedding[first_item : first_item + item_block].T
            best = _largest(
                np.concatenate([best, _keys(scores, first_item)], axis=1), k
            )
        result.index[rows], result.score[rows] = _decode(np.sort(best, axis=1)[:, ::-1])
    return result


def best_of(scores: np.ndarray, k: int) -> SearchResult:
    """The k best items of each query from scores that are there already, under the same rule for ties.

    Args:
        scores: [Q, N] float32; -inf marks an item that is no result.
        k: Results per query, positive; k' = min(k, N) are returned.
    """
    k = min(k, scores.shape[1])
    best = np.sort(_largest(_keys(scores, 0), k), axis=1)[:, ::-1]
    result = _decode(best)
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


def _keys(scores: np.ndarray, first_index: int) -> np.ndarray:
    """One int64 for each score that sorts by score, then by lower index: no two are equal, no tie is open."""
    indices = np.arange(first_index, first_index + scores.shape[1], dtype=np.int64)
    keys = ordinals(scores).astype(np.int64)
    keys <<= 32
    keys |= _MAX_INDEX - indices
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


def _check(query_embedding: np.ndarray, item_embedding: np.ndarray, k: int) -> None:
    if (
        query_embedding.ndim != 2
        or item_embedding.ndim != 2
        or query_embedding.shape[1] != item_embedding.shape[1]
    ):
        raise ValueError(
            "query_embedding and item_embedding must be [Q, D] and [N, D], "
            f"got shapes {query_embedding.shape} and {item_embedding.shape}"
        )
    if k < 1:
        raise ValueError(f"k must be positive, got {k}")
    for name, embedding in (
        ("query_embedding", query_embedding),
        ("item_embedding", item_embedding),
    ):
        # The extremes of an array with NaN are NaN; np.isfinite(embedding) would take memory for every element.
        if embedding.size and not np.isfinite([embedding.min(), embedding.max()]).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values")
