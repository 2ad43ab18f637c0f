"""From requests and items to records: ids are looked up in batches, and travel to the requests item by item."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.typehints import no_annotations

from beam.accounting import EVENTS, ITEMS, USED, count
from beam.vocabulary import Vocabulary
from benchmarks.preprocess.element_wise.requests import Request, Slot
from benchmarks.preprocess.element_wise.rows import Item
from benchmarks.preprocess.element_wise.shards import KeyedRecord, shard_key
from benchmarks.preprocess.element_wise.splits import log_share, num_train_slots
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind, Level

_BATCH = 512  # rows looked up at once
_IDS = np.dtype("<i4")


class EncodedItem(NamedTuple):
    """An item's texts as its record holds them, and its ids of each grain as bytes, a text's numbers of ids first."""

    title: str
    text: str
    ids: tuple[bytes, ...]


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


class _FeaturizingFn(beam.DoFn):
    """Builds its lookup tables in the worker, from the vocabularies that come as a side input."""

    def __init__(self, spec: schema.FeatureSpec, num_shards: int = 0) -> None:
        super().__init__()
        self._spec, self._num_shards = spec, num_shards
        self._featurizer: features.Featurizer | None = None

    def featurizer(
        self, vocabularies: Mapping[str, Sequence[str]]
    ) -> features.Featurizer:
        if self._featurizer is None:
            grains = [grain.name for grain in self._spec.grains]
            entries = {grain: vocabularies.get(grain, ()) for grain in grains}
            self._featurizer = features.Featurizer(self._spec, entries)
        return self._featurizer


class EncodeItems(beam.PTransform):
    """Looks up the ids of every item, once: gives `(item_id, EncodedItem)`."""

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
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "LookUp"
            >> beam.ParDo(_EncodeItemsFn(self._spec), beam.pvalue.AsDict(vocabularies))
        )


class _EncodeItemsFn(_FeaturizingFn):
    def process(
        self, items: list[Item], vocabularies: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, EncodedItem]]:
        fields = {
            name: tf.constant([item.texts[n] for item in items])
            for n, name in enumerate(self._spec.text_fields)
        }
        for n, grain in enumerate(self._spec.attribute_grains):
            dtype = tf.float32 if grain.kind is GrainKind.NUMBER else tf.string
            column = [item.attributes[n] for item in items]
            fields[grain.name] = tf.constant(column, dtype)
        ids = self.featurizer(vocabularies).items(fields)
        columns = [_rows_as_bytes(ids[grain.name]) for grain in self._spec.grains]
        for item, row in zip(items, zip(*columns, strict=True), strict=True):
            text = "\n".join(filter(None, item.texts))
            yield item.item_id, EncodedItem(item.texts[0], text, row)


def _rows_as_bytes(ids: tf.Tensor | tf.RaggedTensor) -> list[bytes]:
    if not isinstance(ids, tf.RaggedTensor):
        return [row.tobytes() for row in ids.numpy().astype(_IDS)]
    flat = ids.flat_values.numpy().astype(_IDS)
    lengths = ids.row_lengths(axis=2).to_tensor().numpy().astype(_IDS)  # [B, F]
    ends = np.cumsum(lengths.sum(axis=1), dtype=np.int64)
    return [
        of_fields.tobytes() + flat[start:end].tobytes()
        for of_fields, (start, end) in zip(
            lengths, itertools.pairwise([0, *ends]), strict=True
        )
    ]


class JoinItems(beam.PTransform):
    """Brings each item's ids to the requests that hold it, and makes the items' own records."""

    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__()
        self._spec, self._num_shards = spec, num_shards

    @no_annotations
    def expand(
        self,
        inputs: tuple[
            beam.PCollection[tuple[str, EncodedItem]], beam.PCollection[Request]
        ],
    ) -> tuple[beam.PCollection[KeyedRecord], beam.PCollection[tuple[str, PlacedItem]]]:
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
        records = joined.items | "EncodeItemRecords" >> beam.Map(
            _item_record, self._spec, self._num_shards
        ).with_output_types(KeyedRecord)
        return records, joined.placed


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


class EncodeRequests(beam.PTransform):
    """Makes the record of each request from it and its items: gives `(split, keyed record)`."""

    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__()
        self._fn = _EncodeRequestsFn(spec, num_shards)

    @no_annotations
    def expand(
        self,
        inputs: tuple[
            beam.PCollection[Request],
            beam.PCollection[tuple[str, PlacedItem]],
            beam.PCollection[Vocabulary],
        ],
    ) -> beam.PCollection[tuple[str, KeyedRecord]]:
        requests, placed, vocabularies = inputs
        keyed = requests | "KeyByRequest" >> beam.Map(
            lambda request: (request.request_id, request)
        ).with_output_types(tuple[str, Any])
        placed = placed | "AnyPlaced" >> beam.Map(lambda item: item).with_output_types(
            tuple[str, Any]
        )
        return (
            (keyed, placed)
            | "Together" >> beam.Flatten()
            | "GroupByRequest" >> beam.GroupByKey()
            | "InOrder" >> beam.Map(_in_order)
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Encode" >> beam.ParDo(self._fn, beam.pvalue.AsDict(vocabularies))
        )


def _in_order(element: tuple[str, Iterable[Any]]) -> tuple[Request, list[PlacedItem]]:
    """A request with its items in the order of its slots."""
    values = list(element[1])
    placed = [value for value in values if isinstance(value, PlacedItem)]
    (request,) = (value for value in values if isinstance(value, Request))
    return request, sorted(placed, key=lambda item: item.slot_index)


class _EncodeRequestsFn(_FeaturizingFn):
    def process(
        self,
        batch: list[tuple[Request, list[PlacedItem]]],
        vocabularies: Mapping[str, Sequence[str]],
    ) -> Iterator[tuple[str, KeyedRecord]]:
        queries = tf.constant([request.query for request, _ in batch])
        ids = {
            grain: rows.to_list()
            for grain, rows in self.featurizer(vocabularies).query(queries).items()
        }
        for n, (request, items) in enumerate(batch):
            example = tf.train.Example()
            _add_strings(example, schema.QUERY, [request.query])
            _add_strings(example, schema.QUERY_POSITIVES, request.positives)
            for grain in self._spec.text_grains:
                _add_ints(example, schema.query_feature(grain.name), ids[grain.name][n])
            _add_items(example, self._spec, request.slots, items)
            count(request.split, "requests")
            for slot in request.slots:
                count(EVENTS, USED, slot.num_rows)
                count(request.split, Level(slot.level).name.lower())
            shard, order = shard_key(request.request_id, self._num_shards)
            record = example.SerializeToString(deterministic=True)
            yield request.split, (shard, (order, record))


def _item_record(
    element: tuple[str, float, EncodedItem], spec: schema.FeatureSpec, num_shards: int
) -> KeyedRecord:
    item_id, log_probability, item = element
    slot = Slot(item_id, Level.RANDOM, -1, 1)
    example = tf.train.Example()
    _add_items(example, spec, [slot], [PlacedItem(0, item.ids, log_probability)])
    _add_strings(example, schema.TITLE, [item.title])
    _add_strings(example, schema.TEXT, [item.text])
    count(ITEMS, USED)
    shard, order = shard_key(item_id, num_shards)
    return shard, (order, example.SerializeToString(deterministic=True))


def _add_items(
    example: tf.train.Example,
    spec: schema.FeatureSpec,
    slots: Sequence[Slot],
    items: Sequence[PlacedItem],
) -> None:
    _add_strings(example, schema.ITEM_ID, [slot.item_id for slot in slots])
    _add_ints(example, schema.LEVEL, [slot.level for slot in slots])
    _add_ints(example, schema.POSITION, [slot.position for slot in slots])
    probabilities = example.features.feature[schema.LOG_PROBABILITY].float_list
    probabilities.value.extend([item.log_probability for item in items])
    num_fields = len(spec.text_fields)
    for n, grain in enumerate(spec.grains):
        name = schema.item_feature(grain.name)
        for item, _ in zip(items, slots, strict=True):
            ids = np.frombuffer(item.ids[n], _IDS).tolist()
            if grain.kind is GrainKind.TEXT:
                lengths = schema.item_lengths(grain.name)
                _add_ints(example, lengths, ids[:num_fields])
                ids = ids[num_fields:]
            _add_ints(example, name, ids)


def _add_strings(example: tf.train.Example, name: str, values: Iterable[str]) -> None:
    encoded = [value.encode("utf-8") for value in values]
    example.features.feature[name].bytes_list.value.extend(encoded)


def _add_ints(example: tf.train.Example, name: str, values: Iterable[int]) -> None:
    example.features.feature[name].int64_list.value.extend(values)
