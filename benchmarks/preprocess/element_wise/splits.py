"""Train and test, and what the train split knows about each query and item."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf

from beam.accounting import Dropped, count, count_dropped
from beam.config import PreprocessConfig
from beam.splits import FindPeriod, Period, is_test_query
from benchmarks.preprocess.element_wise.requests import Request, Slot
from tfrs_mmse import text
from tfrs_mmse.schema import TEST, TRAIN, Level

_BATCH = 1024


class FoldQueries(beam.PTransform):
    """Folds the queries of requests, in batches."""

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
            | "Moments"
            >> beam.Map(
                lambda request: (request.timestamp, request.timestamp)
            ).with_output_types(tuple[float, float])
            | "FindPeriod" >> beam.CombineGlobally(FindPeriod())
        )
        return requests | "SplitByTime" >> beam.Map(
            _split_by_time, fraction, beam.pvalue.AsSingleton(period)
        ).with_output_types(Request)


def _split_by_query(request: Request, test_fraction: float) -> Request:
    is_test = is_test_query(request.query, test_fraction)
    return request._replace(split=TEST if is_test else TRAIN)


def _split_by_time(request: Request, test_fraction: float, period: Period) -> Request:
    is_test = request.timestamp >= period.test_start(test_fraction)
    return request._replace(split=TEST if is_test else TRAIN)


class KnowPositives(beam.PTransform):
    """Tells each request its query's positives in the train split, and takes them from its unclicked items."""

    def __init__(self, max_positives: int) -> None:
        super().__init__()
        self._max_positives = max_positives

    def expand(self, requests: beam.PCollection[Request]) -> beam.PCollection[Request]:
        return (
            requests
            | "KeyByQuery"
            >> beam.Map(lambda request: (request.query, request)).with_output_types(
                tuple[str, Request]
            )
            | "GroupByQuery" >> beam.GroupByKey()
            | "TakePositives" >> beam.ParDo(_KnowPositivesFn(self._max_positives))
        )


class _KnowPositivesFn(beam.DoFn):
    def __init__(self, max_positives: int) -> None:
        super().__init__()
        self._max_positives = max_positives

    def process(self, element: tuple[str, Iterable[Request]]) -> Iterator[Request]:
        _, requests = element  # iterated twice, never held: some queries are popular
        counts = Counter(
            slot.item_id
            for request in requests
            if request.split == TRAIN
            for slot in request.slots
            if slot.level > Level.UNCLICKED
        )
        ranked = sorted(counts, key=lambda item_id: (-counts[item_id], item_id))
        positives = tuple(sorted(ranked[: self._max_positives]))
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


def num_train_slots(requests: beam.PCollection[Request]) -> Any:
    """How many items all train requests hold together, as a side input."""
    total = (
        requests
        | "TrainSizes" >> beam.Map(_num_train_slots).with_output_types(int)
        | "SumTrainSizes" >> beam.CombineGlobally(sum)
    )
    return beam.pvalue.AsSingleton(total)


def _num_train_slots(request: Request) -> int:
    return len(request.slots) if request.split == TRAIN else 0


def log_share(number: int, total: int) -> float:
    """log(number / total), and -inf for no share at all."""
    return math.log(number / total) if number else -math.inf
