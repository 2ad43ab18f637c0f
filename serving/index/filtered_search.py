"""Search inside filters: the k best of the items that pass, never fewer than there are."""

import math
from typing import NamedTuple

import tensorflow as tf

from serving.index.filters import Filters, FilterTable
from serving.index.found import NO_ROW, Found, Index

# By measurements at 200,000 items of 256 dimensions: an approximate search takes about as long as the scores of so many
# single items;
_FEW = 2000
# and the scores of all N items for n queries together, as those of N * (n + 8) / (16 * n) single items for each.
_ALIKE, _SINGLE = 8, 16
_MAX_FETCHED = 8192  # results that an index is asked for
# Values of one tensor that a group of queries may fill.
_MAX_VALUES = 1 << 22
_BLOCK = 1 << 15  # items scored at a time, where all are
_MAX_GATHERED = 1 << 26  # numbers of the embeddings that are copied together


class Filtered(NamedTuple):
    """The best rows inside each query's filter.

    Attributes:
        found: [B, K] rows and scores, best first, each query's padded beyond its own k.
        num_matching: [B] int64: rows that pass the filter and are not excluded.
    """

    found: Found
    num_matching: tf.Tensor


class FilteredSearch(tf.Module):
    """Chooses for each query how it is answered.

    The index is asked for so many results that enough of them should pass; without a filter that is just k, with those
    excluded added. Where that would take longer than to score all items that pass, these are scored; and so they are
    where too few of the results passed.
    """

    def __init__(self, index: Index, table: FilterTable) -> None:
        """Puts the parts together.

        Args:
            index: Over N items.
            table: The attributes of the same items.
        """
        super().__init__()
        self._index, self._table = index, table
        self._num_items, self._dimensions = index.embedding.shape

    def search(
        self, query: tf.Tensor, k: tf.Tensor, excluded: tf.Tensor, filters: Filters
    ) -> Filtered:
        """Finds the best rows inside the filters.

        Args:
            query: [B, D] float32.
            k: [B] int32, positive.
            excluded: [B, E] int32 rows that are not wanted; NO_ROW is none.
            filters: Of the B queries.
        """
        width = tf.reduce_max(tf.concat([[0], k], axis=0))
        job = _Job(query, k, tf.sort(excluded, axis=1), filters, width)
        is_plain = tf.reduce_all(excluded < 0) & tf.reduce_all(
            tf.equal(filters.num_attributes, 0)
        )
        found, count, num_matching = tf.cond(
            is_plain, lambda: self._plain(job), lambda: self._inside(job)
        )
        job = job._replace(wanted=tf.minimum(k, num_matching))
        found = self._complete(job, found, count)
        return Filtered(found, tf.cast(num_matching, tf.int64))

    def _plain(self, job: "_Job") -> tuple[Found, tf.Tensor, tf.Tensor]:
        """One search for all queries, where nothing is left out; see `_inside`."""
        count = job.filters.at_most
        # An empty batch asks for none, which ScaNN refuses.
        results = self._index.search(job.query, tf.maximum(job.width, 1))
        return job.best(*results), count, count

    def _inside(self, job: "_Job") -> tuple[Found, tf.Tensor, tf.Tensor]:
        """What the index finds, how many items pass each filter, and how many of these are not excluded."""
        count = self._count(job.filters)
        num_excluded = self._num_excluded(job)
        num_matching = count - num_excluded
        job = job._replace(wanted=tf.minimum(job.wanted, num_matching))
        is_filtered = job.filters.num_attributes > 0
        need = _need(job.wanted + num_excluded, count, is_filtered, self._num_items)
        is_few = is_filtered & (count <= self._few(need))
        is_fetched = (job.wanted > 0) & (need <= _MAX_FETCHED) & tf.logical_not(is_few)
        found = self._fetch(job, need, tf.where(is_fetched)[:, 0])
        return found, count, num_matching

    def _few(self, need: tf.Tensor) -> tf.Tensor:
        """[B] int32: up to how many passing items these are scored, and the index is not asked for `need` [B]."""
        if self._index.scores_all:
            return tf.fill(tf.shape(need), self._most_single(tf.size(need)))
        return tf.maximum(_FEW, need)

    def _most_single(self, num_queries: tf.Tensor) -> tf.Tensor:
        """How many items some queries may score one by one, each for itself, before scoring all is faster."""
        num_queries = tf.cast(tf.maximum(num_queries, 1), tf.float32)
        share = (num_queries + _ALIKE) / (_SINGLE * num_queries)
        most = tf.cast(self._num_items * share, tf.int32)
        return tf.minimum(most, _MAX_GATHERED // self._dimensions)

    def _complete(self, job: "_Job", found: Found, count: tf.Tensor) -> Found:
        """The same, with exact answers in place of those that hold fewer items than they should."""
        num_found = tf.reduce_sum(tf.cast(found.row >= 0, tf.int32), axis=1)
        is_short = num_found < job.wanted

        def score() -> Found:
            num_short = tf.reduce_sum(tf.cast(is_short, tf.int32))
            is_single = count <= self._most_single(num_short)
            is_single &= job.filters.num_attributes > 0
            single = tf.where(is_short & is_single)[:, 0]
            others = tf.where(is_short & tf.logical_not(is_single))[:, 0]
            return self._score_all(job, self._score_single(job, found, single), others)

        return tf.cond(tf.reduce_any(is_short), score, lambda: found)

    def _count(self, filters: Filters) -> tf.Tensor:
        """[B] int32: items that pass each filter."""
        several = tf.where(filters.num_attributes > 1)[:, 0]
        counts = tf.map_fn(
            lambda query: tf.size(self._table.candidates(filters.of(query[None]))),
            several,
            fn_output_signature=tf.int32,
            parallel_iterations=2,
        )
        return tf.tensor_scatter_nd_update(filters.at_most, several[:, None], counts)

    def _num_excluded(self, job: "_Job") -> tf.Tensor:
        """[B] int32: how many different ones of the excluded rows would pass."""
        excluded = job.excluded
        before = tf.pad(excluded[:, :-1], [[0, 0], [1, 0]], constant_values=NO_ROW)
        before = before[:, : tf.shape(excluded)[1]]
        is_one = tf.not_equal(excluded, before) & (excluded >= 0)
        passing = is_one & self._table.passes(job.filters, excluded)
        return tf.reduce_sum(tf.cast(passing, tf.int32), axis=1)

    def _fetch(self, job: "_Job", need: tf.Tensor, queries: tf.Tensor) -> Found:
        """Asks the index for `need` [B] results, those queries together that need about as many."""
        queries = tf.gather(queries, tf.argsort(tf.gather(need, queries), stable=True))
        need = tf.gather(need, queries)
        total = tf.size(queries)

        def ask(start: tf.Tensor, found: Found) -> tuple[tf.Tensor, Found]:
            limit = 4 * need[start]
            end = tf.searchsorted(need, limit[None], side="right")[0]
            end = tf.minimum(end, start + tf.maximum(1, _MAX_VALUES // limit))
            some = job.of(queries[start:end])
            results = self._index.search(some.query, need[end - 1])
            keep = self._is_wanted(some, results.row)
            keep &= self._table.passes(some.filters, results.row)
            best = some.best(results.row, tf.where(keep, results.score, -math.inf))
            return end, _put(found, queries[start:end], best)

        _, found = tf.while_loop(
            lambda start, found: start < total,
            ask,
            (tf.constant(0), job.nothing()),
            parallel_iterations=1,
        )
        return found

    def _score_single(self, job: "_Job", found: Found, queries: tf.Tensor) -> Found:
        """Scores the items that pass, query by query."""

        def score(number: tf.Tensor, found: Found) -> tuple[tf.Tensor, Found]:
            this = queries[number : number + 1]
            one = job.of(this)
            row = self._table.candidates(one.filters)
            # Read first: a gather from the variable itself makes TensorFlow copy all of it at every later reading.
            embedding = tf.gather(tf.convert_to_tensor(self._index.embedding), row)
            scores = tf.linalg.matmul(one.query, embedding, transpose_b=True)
            keep = self._is_wanted(one, row[None])
            best = one.best(row[None], tf.where(keep, scores, -math.inf))
            return number + 1, _put(found, this, best)

        total = tf.size(queries)
        _, found = tf.while_loop(
            lambda number, found: number < total,
            score,
            (tf.constant(0), found),
            parallel_iterations=1,
        )
        return found

    def _score_all(self, job: "_Job", found: Found, queries: tf.Tensor) -> Found:
        """Scores all items, block by block, for some queries at a time, and leaves out what does not pass."""
        group = max(1, _MAX_VALUES // min(_BLOCK, self._num_items))
        total = tf.size(queries)

        def score(start: tf.Tensor, found: Found) -> tuple[tf.Tensor, Found]:
            these = queries[start : start + group]
            return start + group, _put(found, these, self._best_of_all(job.of(these)))

        _, found = tf.while_loop(
            lambda start, found: start < total,
            score,
            (tf.constant(0), found),
            parallel_iterations=1,
        )
        return found

    def _best_of_all(self, job: "_Job") -> Found:
        def merge(start: tf.Tensor, best: Found) -> tuple[tf.Tensor, Found]:
            block = self._index.embedding[start : start + _BLOCK]
            row = tf.range(start, start + tf.shape(block)[0])[None]
            scores = tf.linalg.matmul(job.query, block, transpose_b=True)
            row = tf.broadcast_to(row, tf.shape(scores))
            keep = self._is_wanted(job, row) & self._table.passes(job.filters, row)
            # Lower rows stand first, so that ties are theirs.
            return start + _BLOCK, job.best(
                tf.concat([best.row, row], axis=1),
                tf.concat([best.score, tf.where(keep, scores, -math.inf)], axis=1),
            )

        _, best = tf.while_loop(
            lambda start, best: start < self._num_items,
            merge,
            (tf.constant(0), job.nothing()),
            parallel_iterations=1,
        )
        return best

    def _is_wanted(self, job: "_Job", row: tf.Tensor) -> tf.Tensor:
        """[B, n] bool: whether rows [B, n] are any, and not excluded."""
        width = tf.shape(job.excluded)[1]
        padded = tf.pad(job.excluded, [[0, 0], [0, 1]], constant_values=self._num_items)
        place = tf.minimum(tf.searchsorted(padded, row), width)
        is_excluded = tf.equal(tf.gather(padded, place, batch_dims=1), row)
        return (row >= 0) & tf.logical_not(is_excluded)


class _Job(NamedTuple):
    """Queries, how many results each is to have, the rows that it excludes, ascending, and how wide the answer is."""

    query: tf.Tensor
    wanted: tf.Tensor
    excluded: tf.Tensor
    filters: Filters
    width: tf.Tensor

    def of(self, queries: tf.Tensor) -> "_Job":
        query, wanted, excluded = (tf.gather(part, queries) for part in self[:3])
        return _Job(query, wanted, excluded, self.filters.of(queries), self.width)

    def nothing(self) -> Found:
        shape = [tf.shape(self.query)[0], self.width]
        return Found(tf.fill(shape, NO_ROW), tf.fill(shape, -math.inf))

    def best(self, row: tf.Tensor, score: tf.Tensor) -> Found:
        """The `wanted` best of rows [B, n], padded to the width; what has a score of -inf is none."""
        num = tf.minimum(self.width, tf.shape(score)[1])
        score, place = tf.math.top_k(score, num)
        row = tf.gather(row, place, batch_dims=1)
        is_there = (score > -math.inf) & (tf.range(num) < self.wanted[:, None])
        missing = [[0, 0], [0, self.width - num]]
        return Found(
            tf.pad(tf.where(is_there, row, NO_ROW), missing, constant_values=NO_ROW),
            tf.pad(
                tf.where(is_there, score, -math.inf), missing, constant_values=-math.inf
            ),
        )


def _need(
    wanted: tf.Tensor, count: tf.Tensor, is_filtered: tf.Tensor, num_items: int
) -> tf.Tensor:
    """[B] int32: how many results of the index should hold `wanted` that pass, if these lie among them as anywhere.

    So many pass on average, that three standard deviations fewer would do.
    """
    wanted = tf.cast(wanted, tf.float32)
    share = tf.cast(tf.maximum(count, 1), tf.float32) / num_items
    fetched = tf.math.ceil((wanted + 3 * tf.sqrt(wanted) + 3) / share)
    fetched = tf.where(is_filtered, fetched, wanted)
    return tf.cast(tf.minimum(fetched, num_items), tf.int32)


def _put(found: Found, queries: tf.Tensor, best: Found) -> Found:
    """The answers of some of the queries in their places."""
    place = queries[:, None]
    return Found(
        tf.tensor_scatter_nd_update(found.row, place, best.row),
        tf.tensor_scatter_nd_update(found.score, place, best.score),
    )
