"""Joins requests and items, looks up their ids, and encodes both as `tf.train.Example`."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.typehints import no_annotations

from beam.accounting import EVENTS, ITEMS, USED, count
from beam.items import Item
from beam.requests import Request, Slot
from beam.shards import KeyedRecord, shard_key
from beam.vocabulary import Vocabulary
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind, Level

_BATCH = 512
_IDS = np.dtype("<i4")  # how ids travel between workers: they are indices into a vocabulary, and there are many


class EncodedItem(NamedTuple):
    """An item as its records hold it.

    Attributes:
        title: As the catalogue has it.
        text: Every text and categorical field that is filled, joined by newlines.
        ids: For each grain the item's ids, as the bytes of an array of `_IDS`.
    """

    title: str
    text: str
    ids: tuple[bytes, ...]


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


class EncodeItems(beam.PTransform):
    """Looks up the ids of every item, once, in batches: gives `(item_id, EncodedItem)`."""

    def __init__(self, spec: schema.FeatureSpec) -> None:
        super().__init__()
        self._spec = spec

    @no_annotations
    def expand(
        self, inputs: tuple[beam.PCollection[Item], beam.PCollection[Vocabulary]]
    ) -> beam.PCollection[tuple[str, EncodedItem]]:
        items, vocabularies = inputs
        return (
            items
            | "Batch" >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "LookUp" >> beam.ParDo(_EncodeItemsFn(self._spec), beam.pvalue.AsDict(vocabularies))
        )


class _FeaturizingFn(beam.DoFn):
    """Builds its lookup tables in the worker, from the vocabularies that come as a side input."""

    def __init__(self, spec: schema.FeatureSpec) -> None:
        super().__init__()
        self._spec = spec
        self._featurizer: features.Featurizer | None = None

    def featurizer(self, vocabularies: Mapping[str, Sequence[str]]) -> features.Featurizer:
        if self._featurizer is None:
            entries = {grain.name: vocabularies.get(grain.name, []) for grain in self._spec.grains}
            self._featurizer = features.Featurizer(self._spec, entries)
        return self._featurizer


class _EncodeItemsFn(_FeaturizingFn):
    def process(
        self, items: list[Item], vocabularies: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, EncodedItem]]:
        spec = self._spec
        ids = self.featurizer(vocabularies).items(item_fields(items, spec))
        columns = [_rows_as_bytes(ids[grain.name]) for grain in spec.grains]
        is_category = [grain.kind is GrainKind.CATEGORICAL for grain in spec.attribute_grains]
        for item, row in zip(items, zip(*columns, strict=True), strict=True):
            categories = [str(value) for value, keep in zip(item.attributes, is_category, strict=True) if keep]
            text = "\n".join(part for part in (*item.texts, *categories) if part)
            yield item.item_id, EncodedItem(item.texts[0], text, row)


def item_fields(items: Sequence[Item], spec: schema.FeatureSpec) -> dict[str, tf.Tensor]:
    """The raw fields of items as `features.Featurizer.items` takes them: [B] tensors by name."""
    fields = {name: tf.constant([item.texts[n] for item in items]) for n, name in enumerate(spec.text_fields)}
    for n, grain in enumerate(spec.attribute_grains):
        dtype = tf.float32 if grain.kind is GrainKind.NUMBER else tf.string
        fields[grain.name] = tf.constant([item.attributes[n] for item in items], dtype)
    return fields


def _rows_as_bytes(ids: tf.Tensor | tf.RaggedTensor) -> list[bytes]:
    if isinstance(ids, tf.RaggedTensor):
        flat, splits = ids.flat_values.numpy().astype(_IDS), ids.row_splits.numpy()
    else:
        flat, splits = ids.numpy().astype(_IDS), np.arange(ids.shape[0] + 1)
    return [flat[start:end].tobytes() for start, end in itertools.pairwise(splits)]


class Joined(NamedTuple):
    """What `JoinItems` gives: the items with their log sampling probability, and their shares in requests."""

    items: beam.PCollection[tuple[str, float, EncodedItem]]
    placed: beam.PCollection[tuple[str, PlacedItem]]


class JoinItems(beam.PTransform):
    """Brings each item's ids to the requests that hold it, with its share of all places in train requests."""

    @no_annotations
    def expand(self, inputs: tuple[beam.PCollection[tuple[str, EncodedItem]], beam.PCollection[Request]]) -> Joined:
        items, requests = inputs
        num_train = (
            requests
            | "TrainSizes" >> beam.Map(_num_train_slots).with_output_types(int)
            | "SumTrainSizes" >> beam.CombineGlobally(sum)
        )
        places = requests | "ListPlaces" >> beam.FlatMap(_places).with_output_types(tuple[str, Any])
        joined = (
            (items | "AnyValue" >> beam.Map(_same).with_output_types(tuple[str, Any]), places)
            | "Together" >> beam.Flatten()
            | "GroupByItem" >> beam.GroupByKey()
            | "Join" >> beam.ParDo(_JoinFn(), beam.pvalue.AsSingleton(num_train)).with_outputs("items", main="placed")
        )
        return Joined(joined.items, joined.placed)


def _same(element: Any) -> Any:
    return element


def _num_train_slots(request: Request) -> int:
    return len(request.slots) if request.split == schema.TRAIN else 0


def _places(request: Request) -> Iterator[tuple[str, Place]]:
    for index, slot in enumerate(request.slots):
        yield slot.item_id, Place(request.request_id, index, request.split == schema.TRAIN)


def log_share(number: int, total: int) -> float:
    """log(number / total), and -inf for no share at all."""
    return math.log(number / total) if number else -math.inf


class _JoinFn(beam.DoFn):
    def process(self, element: tuple[str, Iterable[Any]], num_train_slots: int) -> Iterator[Any]:
        item_id, values = element  # iterated twice and never held: a popular item is in millions of requests
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
                yield value.request_id, PlacedItem(value.slot_index, item.ids, log_probability)


class EncodeItemRecords(beam.PTransform):
    """Makes the record of each item. Counter: `items/used`."""

    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__()
        self._spec, self._num_shards = spec, num_shards

    def expand(self, items: beam.PCollection[tuple[str, float, EncodedItem]]) -> beam.PCollection[KeyedRecord]:
        return items | beam.Map(_item_record, self._spec, self._num_shards).with_output_types(KeyedRecord)


def _item_record(element: tuple[str, float, EncodedItem], spec: schema.FeatureSpec, num_shards: int) -> KeyedRecord:
    item_id, log_probability, item = element
    slot = Slot(item_id, Level.RANDOM, -1, 1)
    example = tf.train.Example()
    _add_items(example, spec, [slot], [PlacedItem(0, item.ids, log_probability)])
    _add_strings(example, schema.TITLE, [item.title])
    _add_strings(example, schema.TEXT, [item.text])
    count(ITEMS, USED)
    shard, order = shard_key(item_id, num_shards)
    return shard, (order, example.SerializeToString(deterministic=True))


class EncodeRequests(beam.PTransform):
    """Makes the record of each request from it and its items: gives `(split, keyed record)`.

    Counters: `events/used`, `<split>/requests`, `<split>/<level>`.
    """

    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__()
        self._spec, self._num_shards = spec, num_shards

    @no_annotations
    def expand(
        self,
        inputs: tuple[
            beam.PCollection[Request], beam.PCollection[tuple[str, PlacedItem]], beam.PCollection[Vocabulary]
        ],
    ) -> beam.PCollection[tuple[str, KeyedRecord]]:
        requests, placed, vocabularies = inputs
        keyed = requests | "KeyByRequest" >> beam.Map(_key_request).with_output_types(tuple[str, Any])
        placed = placed | "AnyValue" >> beam.Map(_same).with_output_types(tuple[str, Any])
        return (
            (keyed, placed)
            | "Together" >> beam.Flatten()
            | "GroupByRequest" >> beam.GroupByKey()
            | "InOrder" >> beam.Map(_in_order)
            | "Batch" >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Encode" >> beam.ParDo(_EncodeRequestsFn(self._spec, self._num_shards), beam.pvalue.AsDict(vocabularies))
        )


def _key_request(request: Request) -> tuple[str, Request]:
    return request.request_id, request


def _in_order(element: tuple[str, Iterable[Any]]) -> tuple[Request, list[PlacedItem]]:
    """A request with its items in the order of its slots."""
    values = list(element[1])
    placed = sorted((value for value in values if isinstance(value, PlacedItem)), key=_slot_index)
    (request,) = (value for value in values if isinstance(value, Request))
    if [item.slot_index for item in placed] != list(range(len(request.slots))):
        raise ValueError(f"request {element[0]!r} did not get each of its items exactly once")
    return request, placed


def _slot_index(item: PlacedItem) -> int:
    return item.slot_index


class _EncodeRequestsFn(_FeaturizingFn):
    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__(spec)
        self._num_shards = num_shards

    def process(
        self, batch: list[tuple[Request, list[PlacedItem]]], vocabularies: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, KeyedRecord]]:
        queries = tf.constant([request.query for request, _ in batch])
        ids = {grain: rows.to_list() for grain, rows in self.featurizer(vocabularies).query(queries).items()}
        for n, (request, items) in enumerate(batch):
            example = tf.train.Example()
            _add_strings(example, schema.QUERY, [request.query])
            _add_strings(example, schema.QUERY_POSITIVES, request.positives)
            for grain in self._spec.text_grains:
                _add_ints(example, schema.query_feature(grain.name), ids[grain.name][n])
            _add_items(example, self._spec, request.slots, items)
            _count_used(request)
            shard, order = shard_key(request.request_id, self._num_shards)
            yield request.split, (shard, (order, example.SerializeToString(deterministic=True)))


def _count_used(request: Request) -> None:
    count(request.split, "requests")
    for slot in request.slots:
        count(EVENTS, USED, slot.num_rows)
        count(request.split, Level(slot.level).name.lower())


def _add_items(
    example: tf.train.Example, spec: schema.FeatureSpec, slots: Sequence[Slot], items: Sequence[PlacedItem]
) -> None:
    _add_strings(example, schema.ITEM_ID, [slot.item_id for slot in slots])
    _add_ints(example, schema.LEVEL, [slot.level for slot in slots])
    _add_ints(example, schema.POSITION, [slot.position for slot in slots])
    probabilities = example.features.feature[schema.LOG_PROBABILITY].float_list
    probabilities.value.extend([item.log_probability for item in items])
    for n, grain in enumerate(spec.grains):
        ids = [item.ids[n] for item in items]
        _add_ints(example, schema.item_feature(grain.name), np.frombuffer(b"".join(ids), _IDS).tolist())
        if grain.kind is GrainKind.TEXT:
            lengths = [len(of_item) // _IDS.itemsize for of_item in ids]
            _add_ints(example, schema.item_lengths(grain.name), lengths)


def _add_strings(example: tf.train.Example, name: str, values: Iterable[str]) -> None:
    example.features.feature[name].bytes_list.value.extend([value.encode("utf-8") for value in values])


def _add_ints(example: tf.train.Example, name: str, values: Iterable[int]) -> None:
    example.features.feature[name].int64_list.value.extend(values)
