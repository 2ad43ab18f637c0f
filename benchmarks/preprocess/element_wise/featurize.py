"""Looks up the ids of items, in batches."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.typehints import no_annotations

from beam.vocabulary import Vocabulary
from benchmarks.preprocess.element_wise.rows import Item
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind

BATCH = 512  # rows looked up at once
IDS = np.dtype("<i4")


class EncodedItem(NamedTuple):
    """An item's texts and attributes as its record holds them.

    And its ids of each grain as bytes, a text's numbers of ids first.
    """

    title: str
    text: str
    ids: tuple[bytes, ...]
    attributes: tuple[str | float, ...]


class FeaturizingFn(beam.DoFn):
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
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
            | "LookUp"
            >> beam.ParDo(_EncodeItemsFn(self._spec), beam.pvalue.AsDict(vocabularies))
        )


class _EncodeItemsFn(FeaturizingFn):
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
            yield (
                item.item_id,
                EncodedItem(item.texts[0], text, row, tuple(item.attributes)),
            )


def _rows_as_bytes(ids: tf.Tensor | tf.RaggedTensor) -> list[bytes]:
    if not isinstance(ids, tf.RaggedTensor):
        return [row.tobytes() for row in ids.numpy().astype(IDS)]
    flat = ids.flat_values.numpy().astype(IDS)
    lengths = ids.row_lengths(axis=2).to_tensor().numpy().astype(IDS)  # [B, F]
    ends = np.cumsum(lengths.sum(axis=1), dtype=np.int64)
    return [
        of_fields.tobytes() + flat[start:end].tobytes()
        for of_fields, (start, end) in zip(
            lengths, itertools.pairwise([0, *ends]), strict=True
        )
    ]
