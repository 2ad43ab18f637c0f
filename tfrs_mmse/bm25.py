"""BM25 over the items' own words: the baseline that every learned retrieval has to beat.

It sees each item's raw text with the same folding and the same rule for words as the model, but no vocabulary limit and
no limit of length: a baseline cut to the model's vocabulary would flatter the model.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import bm25s
import numpy as np
import tensorflow as tf

from tfrs_mmse import retrieval, schema, streams, text
from tfrs_mmse.retrieval import SearchResult

# The library sets its own logger to DEBUG, which would let its messages through to whoever configures logging.
logging.getLogger("bm25s").setLevel(logging.WARNING)

_BATCH = 4096  # texts folded at once
_QUERY_BLOCK = 64  # queries scored at once; each takes one float32 per item


class BM25:
    """An index of item texts, with the library's default parameters (Lucene's variant, k1 = 1.5, b = 0.75)."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        """Builds the index.

        Args:
            texts: One raw UTF-8 text for each item; an item without any word is never found.
        """
        self._num_items = len(texts)
        self._vocabulary: dict[bytes, int] = {}
        ids = [
            [self._vocabulary.setdefault(w, len(self._vocabulary)) for w in words]
            for words in _words(texts)
        ]
        self._index = bm25s.BM25()
        if self._vocabulary:
            tokens = bm25s.tokenization.Tokenized(ids=ids, vocab=dict(self._vocabulary))
            self._index.index(tokens, create_empty_token=False, show_progress=False)

    def search(self, queries: Sequence[bytes], k: int) -> SearchResult:
        """The k best items of each query; an item that shares no word with the query is no result.

        Args:
            queries: Raw or folded UTF-8 strings.
            k: Results per query at most; k' = min(k, number of items).
        """
        k = min(k, self._num_items)
        result = SearchResult(
            np.empty((len(queries), k), np.int32),
            np.empty((len(queries), k), np.float32),
        )
        ids = [
            [self._vocabulary[w] for w in words if w in self._vocabulary]
            for words in _words(queries)
        ]
        for first in range(0, len(ids), _QUERY_BLOCK):
            rows = slice(first, first + _QUERY_BLOCK)
            scores = np.stack([self._scores(tokens) for tokens in ids[rows]])
            result.index[rows], result.score[rows] = retrieval.best_of(
                np.where(scores > 0, scores, -np.inf), k
            )
        return result

    def _scores(self, tokens: list[int]) -> np.ndarray:
        if not tokens:
            return np.zeros(self._num_items, np.float32)
        return self._index.get_scores_from_ids(tokens)


def read_texts(data: Path, item_ids: Sequence[bytes]) -> list[bytes]:
    """Reads the raw text of every item of the catalogue stream, in the order of `item_ids`."""
    texts: dict[bytes, bytes] = {}
    features = {
        name: tf.io.FixedLenFeature([], tf.string)
        for name in (schema.ITEM_ID, schema.TEXT)
    }
    for batch in streams.read_columns(data, schema.ITEMS, features):
        texts.update(zip(batch[schema.ITEM_ID], batch[schema.TEXT], strict=True))
    return [texts[item_id] for item_id in item_ids]


def _words(texts: Sequence[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(texts), _BATCH):
        batch = tf.constant(texts[first : first + _BATCH], tf.string)
        yield from text.words(text.fold(batch), max_words=2**31 - 1).to_list()
