"""Vocabularies: which tokens and attribute values get ids, counted over the catalogue and the train queries."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from apache_beam.typehints import no_annotations

from beam.config import PreprocessConfig
from beam.items import Item
from beam.shards import write_text
from tfrs_mmse import schema, text
from tfrs_mmse.schema import GrainKind

_BATCH = 1024
_MAX_COUNTS = (
    500_000  # distinct tokens that a worker holds before it sends its counts on
)

Entry = tuple[str, str]  # grain, token or value
Vocabulary = tuple[str, list[str]]  # grain, entries in the order of their ids


def count_tokens(texts: Sequence[str], *, max_words: int) -> Counter[Entry]:
    """Counts the tokens of every text grain in a batch of texts."""
    tokens = text.text_grains(text.fold(tf.constant(texts)), max_words=max_words)
    counts: Counter[Entry] = Counter()
    for grain, ragged in tokens.items():
        for token, number in Counter(ragged.flat_values.numpy().tolist()).items():
            counts[grain, token.decode("utf-8")] += number
    return counts


def count_attributes(
    rows: Sequence[Sequence[str | float]], kinds: Mapping[str, GrainKind]
) -> Counter[Entry]:
    """Counts the values of every attribute in a batch of items; missing values are not counted.

    Numbers are rounded to three significant digits, so that there are few distinct ones however many items there are.

    Args:
        rows: The attributes of each item.
        kinds: The kind of each attribute by its grain's name, in the same order.
    """
    counts: Counter[Entry] = Counter()
    for column, (grain, kind) in enumerate(kinds.items()):
        values = [row[column] for row in rows]
        if kind is GrainKind.NUMBER:
            keys = [
                repr(float(f"{value:.3g}"))
                for value in values
                if not math.isnan(float(value))
            ]
        else:
            keys = [
                key.decode("utf-8")
                for key in text.folded_key(tf.constant(values)).numpy()
                if key
            ]
        for key, number in Counter(keys).items():
            counts[grain, key] += number
    return counts


def quantile_boundaries(
    counts: Iterable[tuple[float, int]], num_buckets: int
) -> list[float]:
    """The inner boundaries that cut values into buckets of about the same size, distinct and ascending.

    Boundary k of n - 1 is the value before which, in sorted order, the share k / n of all values stands.

    Args:
        counts: Distinct values and how often each occurs.
        num_buckets: n.
    """
    ordered = sorted(counts)
    total = sum(number for _, number in ordered)
    ranks = [k * total // num_buckets for k in range(1, num_buckets)]
    boundaries = []
    before = 0
    for value, number in ordered:
        if any(before <= rank < before + number for rank in ranks):
            boundaries.append(value)
        before += number
    return boundaries


class BuildVocabularies(beam.PTransform):
    """Counts tokens and values, and chooses the entries of every grain.

    Takes items and the queries of train requests; gives `(grain, entries)`, for grains that have any.
    """

    def __init__(self, spec: schema.FeatureSpec, config: PreprocessConfig) -> None:
        super().__init__()
        self._spec, self._config = spec, config

    @no_annotations
    def expand(
        self, texts: tuple[beam.PCollection[Item], beam.PCollection[str]]
    ) -> beam.PCollection[Vocabulary]:
        items, queries = texts
        spec, config = self._spec, self._config
        kinds = {grain.name: grain.kind for grain in spec.attribute_grains}
        counts = (
            (
                items
                | "Texts" >> beam.FlatMap(_texts).with_output_types(str)
                | "CountItemText" >> CountTokens(spec.max_field_words),
                items | "CountAttributes" >> CountAttributes(kinds),
                queries | "CountQueries" >> CountTokens(spec.max_query_words),
            )
            | "Together" >> beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)
        )
        numbers = [name for name, kind in kinds.items() if kind is GrainKind.NUMBER]
        entries = (
            counts
            | "NoNumbers" >> beam.Filter(_is_of, numbers, False)
            | "NotTooRare" >> beam.Filter(_is_frequent, config.min_count)
            | "ByGrain"
            >> beam.Map(_rank).with_output_types(tuple[str, tuple[int, str]])
            | "MostFrequent"
            >> beam.combiners.Top.PerKey(config.max_vocabulary, reverse=True)
            | "TakeEntries" >> beam.Map(_take_entries).with_output_types(Vocabulary)
        )
        boundaries = (
            counts
            | "OnlyNumbers" >> beam.Filter(_is_of, numbers, True)
            | "ByColumn"
            >> beam.Map(_value).with_output_types(tuple[str, tuple[float, int]])
            | "GroupByColumn" >> beam.GroupByKey()
            | "Quantiles"
            >> beam.Map(_take_boundaries, config.number_buckets).with_output_types(
                Vocabulary
            )
        )
        return (entries, boundaries) | "AllGrains" >> beam.Flatten()


def _texts(item: Item) -> Iterator[str]:
    return filter(None, item.texts)


def _is_of(count: tuple[Entry, int], grains: Sequence[str], wanted: bool) -> bool:
    return (count[0][0] in grains) == wanted


def _is_frequent(count: tuple[Entry, int], min_count: int) -> bool:
    return count[1] >= min_count


def _rank(count: tuple[Entry, int]) -> tuple[str, tuple[int, str]]:
    (grain, entry), number = count
    return grain, (-number, entry)  # smallest first: most frequent, then by entry


def _take_entries(ranked: tuple[str, list[tuple[int, str]]]) -> Vocabulary:
    return ranked[0], [entry for _, entry in ranked[1]]


def _value(count: tuple[Entry, int]) -> tuple[str, tuple[float, int]]:
    (column, value), number = count
    return column, (float(value), number)


def _take_boundaries(
    values: tuple[str, Iterable[tuple[float, int]]], num_buckets: int
) -> Vocabulary:
    return values[0], [
        repr(boundary) for boundary in quantile_boundaries(values[1], num_buckets)
    ]


class CountTokens(beam.PTransform):
    """Counts the tokens of texts, in batches: gives `((grain, token), number)`, to be summed."""

    def __init__(self, max_words: int) -> None:
        super().__init__()
        self._max_words = max_words

    def expand(
        self, texts: beam.PCollection[str]
    ) -> beam.PCollection[tuple[Entry, int]]:
        return (
            texts
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Count"
            >> beam.ParDo(
                _CountFn(functools.partial(count_tokens, max_words=self._max_words))
            )
        )


class CountAttributes(beam.PTransform):
    """Counts the values of items' attributes, in batches: gives `((column, value), number)`, to be summed."""

    def __init__(self, kinds: Mapping[str, GrainKind]) -> None:
        super().__init__()
        self._kinds = dict(kinds)

    def expand(
        self, items: beam.PCollection[Item]
    ) -> beam.PCollection[tuple[Entry, int]]:
        return (
            items
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Count"
            >> beam.ParDo(_CountFn(functools.partial(_count_items, kinds=self._kinds)))
        )


def _count_items(
    items: Sequence[Item], kinds: Mapping[str, GrainKind]
) -> Counter[Entry]:
    return count_attributes([item.attributes for item in items], kinds)


class _CountFn(beam.DoFn):
    """Adds up the counts of a bundle's batches before it sends them on."""

    def __init__(self, count_fn: Callable[[list[Any]], Counter[Entry]]) -> None:
        super().__init__()
        self._count_fn = count_fn

    def start_bundle(self) -> None:
        self._counts: Counter[Entry] = Counter()

    def process(self, batch: list[Any]) -> Iterator[tuple[Entry, int]]:
        self._counts.update(self._count_fn(batch))
        if len(self._counts) > _MAX_COUNTS:
            yield from self._counts.items()
            self._counts.clear()

    def finish_bundle(self) -> Iterator[Any]:
        for counted in self._counts.items():
            yield GlobalWindows.windowed_value(counted)


class WriteVocabularies(beam.PTransform):
    """Writes `vocab/GRAIN.txt` for every grain, one entry a line; a grain without entries has an empty file."""

    def __init__(self, output: str, spec: schema.FeatureSpec) -> None:
        super().__init__()
        self._output, self._spec = output, spec

    def expand(
        self, vocabularies: beam.PCollection[Vocabulary]
    ) -> beam.PCollection[str]:
        grains = [grain.name for grain in self._spec.grains]
        return (
            vocabularies.pipeline
            | "NameGrains" >> beam.Create(grains)
            | "Write"
            >> beam.Map(_write, self._output, beam.pvalue.AsDict(vocabularies))
        )


def _write(grain: str, output: str, vocabularies: Mapping[str, Sequence[str]]) -> str:
    path = FileSystems.join(output, schema.VOCABULARY_DIR, f"{grain}.txt")
    write_text(path, "".join(f"{entry}\n" for entry in vocabularies.get(grain, [])))
    return path
