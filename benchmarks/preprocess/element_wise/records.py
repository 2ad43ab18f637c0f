"""Encodes requests and items as `tf.train.Example`, one by one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.typehints import no_annotations

from beam.accounting import EVENTS, ITEMS, USED, count
from beam.vocabulary import Vocabulary
from benchmarks.preprocess.element_wise.featurize import (
    BATCH,
    IDS,
    EncodedItem,
    FeaturizingFn,
)
from benchmarks.preprocess.element_wise.join import PlacedItem
from benchmarks.preprocess.element_wise.requests import Request, Slot
from benchmarks.preprocess.element_wise.shards import KeyedRecord, shard_key
from tfrs_mmse import schema
from tfrs_mmse.schema import GrainKind, Level


class EncodeItemRecords(beam.PTransform):
    """Makes the record of each item."""

    def __init__(self, spec: schema.FeatureSpec, num_shards: int) -> None:
        super().__init__()
        self._spec, self._num_shards = spec, num_shards

    def expand(
        self, items: beam.PCollection[tuple[str, float, EncodedItem]]
    ) -> beam.PCollection[KeyedRecord]:
        return items | beam.Map(
            _item_record, self._spec, self._num_shards
        ).with_output_types(KeyedRecord)


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
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
            | "Encode" >> beam.ParDo(self._fn, beam.pvalue.AsDict(vocabularies))
        )


def _in_order(element: tuple[str, Iterable[Any]]) -> tuple[Request, list[PlacedItem]]:
    """A request with its items in the order of its slots."""
    values = list(element[1])
    placed = [value for value in values if isinstance(value, PlacedItem)]
    (request,) = (value for value in values if isinstance(value, Request))
    return request, sorted(placed, key=lambda item: item.slot_index)


class _EncodeRequestsFn(FeaturizingFn):
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
    for grain, value in zip(spec.attribute_grains, item.attributes, strict=True):
        name = schema.item_value(grain.name)
        if isinstance(value, str):
            _add_strings(example, name, [value])
        else:
            example.features.feature[name].float_list.value.append(value)
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
            ids = np.frombuffer(item.ids[n], IDS).tolist()
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
