"""Brings the items' ids to the requests that hold them, by a join: no worker holds the catalogue."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from beam.featurize import EncodedItem
from beam.requests import Request
from tfrs_mmse import schema


class Place(NamedTuple):
    """Where a request holds an item: its request id, the item's index in it, and whether the request is a train one."""

    request_id: str
    slot_index: int
    is_train: bool


class PlacedItem(NamedTuple):
    """An item's share in one request: its index in it, its ids by grain, and its log sampling probability."""

    slot_index: int
    ids: tuple[bytes, ...]
    log_probability: float


class Joined(NamedTuple):
    """What `JoinItems` gives: the items with their log sampling probability, and their shares in requests."""

    items: beam.PCollection[tuple[str, float, EncodedItem]]
    placed: beam.PCollection[tuple[str, PlacedItem]]


class JoinItems(beam.PTransform):
    """Brings each item's ids to the requests that hold it, with its share of all places in train requests."""

    @no_annotations
    def expand(
        self,
        inputs: tuple[
            beam.PCollection[tuple[str, EncodedItem]], beam.PCollection[Request]
        ],
    ) -> Joined:
        items, requests = inputs
        num_train = (
            requests
            | "TrainSizes" >> beam.Map(_num_train_slots).with_output_types(int)
            | "SumTrainSizes" >> beam.CombineGlobally(sum)
        )
        places = requests | "ListPlaces" >> beam.FlatMap(_places).with_output_types(
            tuple[str, Any]
        )
        joined = (
            (
                items
                | "AnyValue" >> beam.Map(_same).with_output_types(tuple[str, Any]),
                places,
            )
            | "Together" >> beam.Flatten()
            | "GroupByItem" >> beam.GroupByKey()
            | "Join"
            >> beam.ParDo(_JoinFn(), beam.pvalue.AsSingleton(num_train)).with_outputs(
                "items", main="placed"
            )
        )
        return Joined(joined.items, joined.placed)


def _same(element: Any) -> Any:
    return element


def _num_train_slots(request: Request) -> int:
    return len(request.slots) if request.split == schema.TRAIN else 0


def _places(request: Request) -> Iterator[tuple[str, Place]]:
    for index, slot in enumerate(request.slots):
        yield (
            slot.item_id,
            Place(request.request_id, index, request.split == schema.TRAIN),
        )


def log_share(number: int, total: int) -> float:
    """log(number / total), and -inf for no share at all."""
    return math.log(number / total) if number else -math.inf


class _JoinFn(beam.DoFn):
    def process(
        self, element: tuple[str, Iterable[Any]], num_train_slots: int
    ) -> Iterator[Any]:
        item_id, values = (
            element  # iterated twice and never held: a popular item is in millions of requests
        )
        item = None
        num_train = 0
        for value in values:
            if isinstance(value, Place):
                num_train += value.is_train
            else:
                item = value
        if item is None:
            raise ValueError(f"item {item_id!r} is in a request, but was not encoded")
        log_probability = log_share(num_train, num_train_slots)
        yield beam.pvalue.TaggedOutput("items", (item_id, log_probability, item))
        for value in values:
            if isinstance(value, Place):
                yield (
                    value.request_id,
                    PlacedItem(value.slot_index, item.ids, log_probability),
                )
