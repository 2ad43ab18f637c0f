"""Train and test, and what the train split knows about each query."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf

from beam.accounting import Dropped, count, count_dropped
from beam.config import PreprocessConfig
from beam.requests import Request, Slot
from tfrs_mmse import text
from tfrs_mmse.schema import TEST, TRAIN, Level

_BATCH = 1024


def is_test_query(folded: str, test_fraction: float) -> bool:
    """Whether a folded query is in the test split when queries are split: the same answer on every run and machine.

    By query and not by request, so that no request of a test query is ever trained on: test queries are unseen.
    """
    digest = hashlib.sha256(folded.encode("utf-8")).hexdigest()
    return int(digest[:8], 16) / 2**32 < test_fraction


class Period(NamedTuple):
    """From the earliest to the latest request, in seconds since 1970."""

    start: float
    end: float

    def test_start(self, test_fraction: float) -> float:
        """The moment from which on requests are in the test split when time is split."""
        return self.start + (1 - test_fraction) * (self.end - self.start)


class _PeriodFn(beam.CombineFn):
    def create_accumulator(self) -> tuple[float, float]:
        return float("inf"), float("-inf")

    def add_input(
        self, mutable_accumulator: tuple[float, float], element: float
    ) -> tuple[float, float]:
        return min(mutable_accumulator[0], element), max(
            mutable_accumulator[1], element
        )

    def merge_accumulators(
        self, accumulators: Iterable[tuple[float, float]]
    ) -> tuple[float, float]:
        starts, ends = zip(*accumulators, strict=True)
        return min(starts), max(ends)

    def extract_output(self, accumulator: tuple[float, float]) -> Period:
        return Period(*accumulator)


class FoldQueries(beam.PTransform):
    """Folds the queries of requests, in batches: `Ação  Já` and `acao ja` are one query."""

    def expand(self, requests: beam.PCollection[Request]) -> beam.PCollection[Request]:
        return (
            requests
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Fold" >> beam.FlatMap(_fold).with_output_types(Request)
        )


def _fold(requests: list[Request]) -> Iterator[Request]:
    folded = text.folded_key(tf.constant([request.query for request in requests]))
    for request, query in zip(requests, folded.numpy(), strict=True):
        yield request._replace(query=query.decode("utf-8"))


class SplitRequests(beam.PTransform):
    """Sets each request's split, by the moment or by its folded query."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, requests: beam.PCollection[Request]) -> beam.PCollection[Request]:
        fraction = self._config.test_fraction
        if self._config.split_by == "query":
            return requests | "SplitByQuery" >> beam.Map(
                _split_by_query, fraction
            ).with_output_types(Request)
        period = (
            requests
            | "Timestamps" >> beam.Map(_timestamp).with_output_types(float)
            | "FindPeriod" >> beam.CombineGlobally(_PeriodFn())
        )
        return requests | "SplitByTime" >> beam.Map(
            _split_by_time, fraction, beam.pvalue.AsSingleton(period)
        ).with_output_types(Request)


def _timestamp(request: Request) -> float:
    return request.timestamp


def _split_by_query(request: Request, test_fraction: float) -> Request:
    return request._replace(
        split=TEST if is_test_query(request.query, test_fraction) else TRAIN
    )


def _split_by_time(request: Request, test_fraction: float, period: Period) -> Request:
    return request._replace(
        split=TEST if request.timestamp >= period.test_start(test_fraction) else TRAIN
    )


def positive_counts(requests: Iterable[Request]) -> Counter[str]:
    """How many train requests of one query clicked or ordered each item."""
    counts: Counter[str] = Counter()
    for request in requests:
        if request.split == TRAIN:
            counts.update(
                slot.item_id for slot in request.slots if slot.level > Level.UNCLICKED
            )
    return counts


def most_frequent(counts: Counter[str], limit: int) -> tuple[str, ...]:
    """The `limit` most frequent ids, ties to the smaller id; sorted by id."""
    ranked = sorted(counts, key=lambda item_id: (-counts[item_id], item_id))
    return tuple(sorted(ranked[:limit]))


class KnowPositives(beam.PTransform):
    """Tells each request its query's positives in the train split, and takes them from its unclicked items.

    Only train requests lose items by that; test requests are judged as they were. Counters:
    `events/dropped_unclicked_but_positive`, `<split>/queries`.
    """

    def __init__(self, max_positives: int) -> None:
        super().__init__()
        self._max_positives = max_positives

    def expand(self, requests: beam.PCollection[Request]) -> beam.PCollection[Request]:
        return (
            requests
            | "KeyByQuery" >> beam.Map(_key).with_output_types(tuple[str, Request])
            | "GroupByQuery" >> beam.GroupByKey()
            | "TakePositives" >> beam.ParDo(_KnowPositivesFn(self._max_positives))
        )


def _key(request: Request) -> tuple[str, Request]:
    return request.query, request


class _KnowPositivesFn(beam.DoFn):
    def __init__(self, max_positives: int) -> None:
        super().__init__()
        self._max_positives = max_positives

    def process(self, element: tuple[str, Iterable[Request]]) -> Iterator[Request]:
        _, requests = (
            element  # iterated twice and never held: a head query has millions of requests
        )
        counts = positive_counts(requests)
        positives = most_frequent(counts, self._max_positives)
        splits = set()
        for request in requests:
            splits.add(request.split)
            kept: list[Slot] = []
            for slot in request.slots:
                if (
                    request.split == TRAIN
                    and slot.level == Level.UNCLICKED
                    and slot.item_id in counts
                ):
                    count_dropped(Dropped.UNCLICKED_BUT_POSITIVE, slot.num_rows)
                else:
                    kept.append(slot)
            yield request._replace(slots=tuple(kept), positives=positives)
        for split in splits:
            count(split, "queries")
