"""BM25 over the items' own words: the baseline that every learned retrieval has to beat.

It sees each item's raw text with the same folding and the same rule for words as the model, but no vocabulary limit and
no limit of length: a baseline cut to the model's vocabulary would flatter the model. For the same reason its two
parameters are tuned, on queries of the train split.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import bm25s
import numpy as np
import tensorflow as tf

from tfrs_mmse import cli, metrics, relevance, retrieval, schema, streams, text
from tfrs_mmse.relevance import Qrels, Request
from tfrs_mmse.retrieval import SearchResult

# The library sets its own logger to DEBUG, which would let its messages through to whoever configures logging.
logging.getLogger("bm25s").setLevel(logging.WARNING)

K1, B = 1.5, 0.75  # the library's defaults
K1_GRID = (0.2, 0.4, 0.6, 0.9, 1.2, K1, 2.0)
B_GRID = (0.0, 0.25, 0.5, B, 1.0)
TUNING_QUERIES = 500  # of the train split: beyond that, the order of neighbours in the grid hardly changes

_BATCH = 4096  # texts folded at once
_QUERY_BLOCK = 64  # queries scored at once; each takes one float32 per item


class Parameters(NamedTuple):
    """What BM25 leaves open.

    Attributes:
        k1: How slowly the weight of a word saturates with its count in the text; 0 ignores the count.
        b: How much a long text is marked down for its length, from 0 (not at all) to 1.
    """

    k1: float = K1
    b: float = B


class Words(NamedTuple):
    """Texts as numbers, so that several indexes can be built of them.

    Attributes:
        ids: For each text the numbers of its words, in order.
        vocabulary: The number of each word.
    """

    ids: list[list[int]]
    vocabulary: dict[bytes, int]


class BM25:
    """An index of item texts (Lucene's variant of BM25, the library's default)."""

    def __init__(
        self, texts: Sequence[bytes] | Words, *, k1: float = K1, b: float = B
    ) -> None:
        """Builds the index.

        Args:
            texts: One raw UTF-8 text for each item, or what `number_words` made of them; an item without any word is
                never found.
            k1: See `Parameters`.
            b: See `Parameters`.
        """
        ids, self._vocabulary = (
            texts if isinstance(texts, Words) else number_words(texts)
        )
        self.k1, self.b = k1, b
        self._num_items = len(ids)
        self._index = bm25s.BM25(k1=k1, b=b)
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


def tuned(data: Path, item_ids: Sequence[bytes], texts: Sequence[bytes]) -> BM25:
    """An index with the parameters that find most of what queries of the train split clicked or ordered.

    The objective is the mean of recall@10 and recall@100 of those items, over at most `TUNING_QUERIES` queries: these
    are the figures that the baseline is compared by. It takes about 15 to 20 indexes of the catalogue, each with a
    search. Without a click in the train split the library's defaults stay.

    Args:
        data: Directory of examples.
        item_ids: The id of each item.
        texts: The raw text of each item.

    Raises:
        CommandError: the examples cannot be read.
    """
    words = number_words(texts)
    qrels = sample_queries(data, TUNING_QUERIES)
    if not qrels:
        cli.say(
            f"no clicks in the train split: BM25 keeps its default parameters, k1 = {K1} and b = {B}"
        )
        return BM25(words)
    judgements, queries = metrics.Judgements(qrels, item_ids), list(qrels)

    def recall(parameters: Parameters) -> float:
        found = BM25(words, k1=parameters.k1, b=parameters.b).search(queries, 100)
        figures = metrics.means(judgements.figures(found.index))["clicked"]
        return ((figures["recall@10"] or 0.0) + (figures["recall@100"] or 0.0)) / 2

    best = coordinate_search(recall)
    cli.say(
        f"BM25 tuned on {len(queries)} queries of the train split: k1 = {best.k1}, b = {best.b}"
    )
    return BM25(words, k1=best.k1, b=best.b)


def coordinate_search(objective: Callable[[Parameters], float]) -> Parameters:
    """The best parameters of the grid, by turns over k1 and over b until neither changes, from the defaults on.

    So the result is never worse than the defaults, and of equal ones the current one stays.
    """
    tried: dict[Parameters, float] = {}

    def best_of(candidates: list[Parameters]) -> Parameters:
        for parameters in candidates:
            if parameters not in tried:
                tried[parameters] = objective(parameters)
        return max(candidates, key=lambda parameters: tried[parameters])

    best = Parameters()
    while True:
        former = best
        best = best_of([best, *(Parameters(k1, best.b) for k1 in K1_GRID)])
        best = best_of([best, *(Parameters(best.k1, b) for b in B_GRID)])
        if best == former:
            return best


def sample_queries(data: Path, num_queries: int) -> Qrels:
    """What queries of the train split clicked or ordered: a sample by the queries' hashes, the same every time.

    Only the records of the sample are kept in memory. Empty if the train split holds no click, or there is none.
    """
    counts = schema.Manifest.read(data).splits.get(schema.TRAIN, {})
    positive = (schema.Level.CLICKED, schema.Level.ORDERED)
    if not any(counts.get(level.name.lower(), 0) for level in positive):
        return {}
    # Not every query has a click, so more are kept at first than are wanted.
    share = 4 * num_queries / max(counts.get("queries", 0), 1)
    features = {
        schema.QUERY: tf.io.FixedLenFeature([], tf.string),
        schema.ITEM_ID: tf.io.RaggedFeature(tf.string),
        schema.LEVEL: tf.io.RaggedFeature(tf.int64),
    }
    requests = (
        Request(query, item_id[level >= min(positive)], level[level >= min(positive)])
        for batch in streams.read_columns(data, schema.TRAIN, features)
        for query, item_id, level in zip(
            batch[schema.QUERY], batch[schema.ITEM_ID], batch[schema.LEVEL], strict=True
        )
        if _hash(query) < share
    )
    qrels = relevance.deepest_levels(requests)
    return {query: qrels[query] for query in sorted(qrels, key=_hash)[:num_queries]}


def number_words(texts: Sequence[bytes]) -> Words:
    """Folds texts and numbers their words in the order of their first appearance."""
    vocabulary: dict[bytes, int] = {}
    ids = [
        [vocabulary.setdefault(w, len(vocabulary)) for w in words]
        for words in _words(texts)
    ]
    return Words(ids, vocabulary)


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


def _hash(query: bytes) -> float:
    """A number from 0 to 1 that looks random but is always the same for the same query."""
    return int.from_bytes(hashlib.sha256(query).digest()[:8]) / 2**64


def _words(texts: Sequence[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(texts), _BATCH):
        batch = tf.constant(texts[first : first + _BATCH], tf.string)
        yield from text.words(text.fold(batch), max_words=2**31 - 1).to_list()
