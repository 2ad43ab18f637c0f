"""Brings the items' ids to the requests that hold them."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.typehints import no_annotations

from benchmarks.preprocess.element_wise.featurize import EncodedItem
from benchmarks.preprocess.element_wise.requests import Request
from benchmarks.preprocess.element_wise.splits import log_share, num_train_slots
from tfrs_mmse import schema


class Place(NamedTuple):
    """Where a request holds an item."""

    request_id: str
    slot_index: int
    is_train: bool


class PlacedItem(NamedTuple):
    """An item's share in one request."""

    slot_index: int
    ids: tuple[bytes, ...]
    log_probability: float


class Joined(NamedTuple):
    """The items with their log sampling probability, and their shares in requests."""

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
        any_items = items | "AnyItem" >> beam.Map(lambda item: item).with_output_types(
            tuple[str, Any]
        )
        places = requests | "ListPlaces" >> beam.FlatMap(_places).with_output_types(
            tuple[str, Any]
        )
        joined = (
            (any_items, places)
            | "Together" >> beam.Flatten()
            | "GroupByItem" >> beam.GroupByKey()
            | "Join"
            >> beam.ParDo(_JoinFn(), num_train_slots(requests)).with_outputs(
                "items", main="placed"
            )
        )
        return Joined(joined.items, joined.placed)


def _places(request: Request) -> Iterator[tuple[str, Place]]:
    is_train = request.split == schema.TRAIN
    for index, slot in enumerate(request.slots):
        yield slot.item_id, Place(request.request_id, index, is_train)


class _JoinFn(beam.DoFn):
    def process(self, element: tuple[str, Iterable[Any]], total: int) -> Iterator[Any]:
        item_id, values = element  # iterated twice, never held: some items are popular
        num_train = 0
        for value in values:
            if isinstance(value, Place):
                num_train += value.is_train
            else:
                item = value
        log_probability = log_share(num_train, total)
        yield beam.pvalue.TaggedOutput("items", (item_id, log_probability, item))
        for value in values:
            if isinstance(value, Place):
                placed = PlacedItem(value.slot_index, item.ids, log_probability)
                yield value.request_id, placed
