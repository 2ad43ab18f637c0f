"""Looks up the ids of items and queries, in batches, in the worker."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.typehints import no_annotations

from beam.items import Item
from beam.vocabulary import Vocabulary
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind

BATCH = 512  # rows looked up at once
# How ids travel between workers: they are indices into a vocabulary, and there are many.
IDS = np.dtype("<i4")


class EncodedItem(NamedTuple):
    """An item as its records hold it.

    Attributes:
        title: As the catalogue has it.
        text: Every text field that is filled, joined by newlines.
        ids: For each grain the item's ids, as the bytes of an array of `IDS`; those of a text grain start with the
            number of ids of each text field.
    """

    title: str
    text: str
    ids: tuple[bytes, ...]


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
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
            | "LookUp"
            >> beam.ParDo(_EncodeItemsFn(self._spec), beam.pvalue.AsDict(vocabularies))
        )


class FeaturizingFn(beam.DoFn):
    """Builds its lookup tables in the worker, from the vocabularies that come as a side input."""

    def __init__(self, spec: schema.FeatureSpec) -> None:
        super().__init__()
        self._spec = spec
        self._featurizer: features.Featurizer | None = None

    def featurizer(
        self, vocabularies: Mapping[str, Sequence[str]]
    ) -> features.Featurizer:
        if self._featurizer is None:
            entries = {
                grain.name: vocabularies.get(grain.name, ())
                for grain in self._spec.grains
            }
            self._featurizer = features.Featurizer(self._spec, entries)
        return self._featurizer


class _EncodeItemsFn(FeaturizingFn):
    def process(
        self, items: list[Item], vocabularies: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, EncodedItem]]:
        spec = self._spec
        ids = self.featurizer(vocabularies).items(item_fields(items, spec))
        columns = [_rows_as_bytes(ids[grain.name]) for grain in spec.grains]
        for item, row in zip(items, zip(*columns, strict=True), strict=True):
            text = "\n".join(part for part in item.texts if part)
            yield item.item_id, EncodedItem(item.texts[0], text, row)


def item_fields(
    items: Sequence[Item], spec: schema.FeatureSpec
) -> dict[str, tf.Tensor]:
    """The raw fields of items as `features.Featurizer.items` takes them: [B] tensors by name."""
    fields = {
        name: tf.constant([item.texts[n] for item in items])
        for n, name in enumerate(spec.text_fields)
    }
    for n, grain in enumerate(spec.attribute_grains):
        dtype = tf.float32 if grain.kind is GrainKind.NUMBER else tf.string
        fields[grain.name] = tf.constant([item.attributes[n] for item in items], dtype)
    return fields


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


def split_fields(encoded: bytes, num_fields: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of ids of each text field, and the ids, of one item's text grain in `EncodedItem.ids`."""
    numbers = np.frombuffer(encoded, IDS)
    return numbers[:num_fields], numbers[num_fields:]
