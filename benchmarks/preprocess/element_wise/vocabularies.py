"""Which tokens and attribute values get ids, counted one by one."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.transforms.window import GlobalWindows
from apache_beam.typehints import no_annotations

from beam.config import PreprocessConfig
from beam.shards import write_text
from beam.vocabulary import Vocabulary, quantile_boundaries, vocabulary_text
from benchmarks.preprocess.element_wise.requests import Request
from benchmarks.preprocess.element_wise.rows import Item
from tfrs_mmse import schema, text
from tfrs_mmse.schema import GrainKind

_BATCH = 1024
_MAX_COUNTS = 500_000  # that a worker holds before it sends them on

Entry = tuple[str, str]  # grain, token or value


class BuildVocabularies(beam.PTransform):
    """Counts the tokens of items and train queries, and gives `(grain, entries)` of grains that have any."""

    def __init__(self, spec: schema.FeatureSpec, config: PreprocessConfig) -> None:
        super().__init__()
        self._spec, self._config = spec, config

    @no_annotations
    def expand(
        self, inputs: tuple[beam.PCollection[Item], beam.PCollection[Request]]
    ) -> beam.PCollection[Vocabulary]:
        items, requests = inputs
        spec, config = self._spec, self._config
        kinds = {grain.name: grain.kind for grain in spec.attribute_grains}
        numbers = {name for name, kind in kinds.items() if kind is GrainKind.NUMBER}
        texts = items | "Texts" >> beam.FlatMap(_texts).with_output_types(str)
        queries = requests | "TrainQueries" >> beam.FlatMap(
            _train_query
        ).with_output_types(str)
        counts = (
            (
                texts | "CountTexts" >> _Count(_count_tokens, spec.max_field_words),
                queries | "CountQueries" >> _Count(_count_tokens, spec.max_query_words),
                items | "CountAttributes" >> _Count(_count_attributes, kinds),
            )
            | "Together" >> beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)
        )
        entries = (
            counts
            | "Frequent" >> beam.FlatMap(_frequent, numbers, config.min_count)
            | "ByGrain"
            >> beam.Map(lambda entry: entry).with_output_types(
                tuple[str, tuple[int, str]]
            )
            | "MostFrequent"
            >> beam.combiners.Top.PerKey(config.max_vocabulary, reverse=True)
            | "TakeEntries" >> beam.Map(_take_entries).with_output_types(Vocabulary)
        )
        boundaries = (
            counts
            | "Numbers"
            >> beam.FlatMap(_numbers, numbers).with_output_types(
                tuple[str, tuple[float, int]]
            )
            | "GroupByColumn" >> beam.GroupByKey()
            | "Quantiles"
            >> beam.Map(_take_boundaries, config.number_buckets).with_output_types(
                Vocabulary
            )
        )
        return (entries, boundaries) | "AllGrains" >> beam.Flatten()


def _texts(item: Item) -> Iterator[str]:
    return filter(None, item.texts)


def _train_query(request: Request) -> Iterator[str]:
    if request.split == schema.TRAIN:
        yield request.query


def _frequent(
    count: tuple[Entry, int], numbers: set[str], min_count: int
) -> Iterator[tuple[str, tuple[int, str]]]:
    (grain, entry), number = count
    if grain not in numbers and number >= min_count:
        yield grain, (-number, entry)  # smallest first: most frequent, then by entry


def _take_entries(ranked: tuple[str, list[tuple[int, str]]]) -> Vocabulary:
    return ranked[0], [entry for _, entry in ranked[1]]


def _numbers(
    count: tuple[Entry, int], numbers: set[str]
) -> Iterator[tuple[str, tuple[float, int]]]:
    (grain, value), number = count
    if grain in numbers:
        yield grain, (float(value), number)


def _take_boundaries(
    values: tuple[str, Iterable[tuple[float, int]]], num_buckets: int
) -> Vocabulary:
    boundaries = quantile_boundaries(values[1], num_buckets)
    return values[0], [repr(boundary) for boundary in boundaries]


def _count_tokens(texts: Sequence[str], max_words: int) -> Counter[Entry]:
    tokens = text.text_grains(text.fold(tf.constant(texts)), max_words=max_words)
    counts: Counter[Entry] = Counter()
    for grain, ragged in tokens.items():
        for token, number in Counter(ragged.flat_values.numpy().tolist()).items():
            counts[grain, token.decode("utf-8")] += number
    return counts


def _count_attributes(
    items: Sequence[Item], kinds: Mapping[str, GrainKind]
) -> Counter[Entry]:
    counts: Counter[Entry] = Counter()
    for column, (grain, kind) in enumerate(kinds.items()):
        values = [item.attributes[column] for item in items]
        if kind is GrainKind.NUMBER:
            present = [value for value in values if not math.isnan(value)]
            keys = [repr(float(f"{value:.3g}")) for value in present]
        else:
            folded = text.folded_key(tf.constant(values)).numpy()
            keys = [key.decode("utf-8") for key in folded if key]
        for key, number in Counter(keys).items():
            counts[grain, key] += number
    return counts


class _Count(beam.PTransform):
    """Counts in batches: gives `((grain, entry), number)`, to be summed."""

    def __init__(self, count_fn: Callable[..., Counter[Entry]], limit: Any) -> None:
        super().__init__()
        self._fn = _CountFn(count_fn, limit)

    @no_annotations
    def expand(
        self, elements: beam.PCollection[Any]
    ) -> beam.PCollection[tuple[Entry, int]]:
        return (
            elements
            | "Batch"
            >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "Count" >> beam.ParDo(self._fn).with_output_types(tuple[Entry, int])
        )


class _CountFn(beam.DoFn):
    """Adds up the counts of a bundle's batches before it sends them on."""

    def __init__(self, count_fn: Callable[..., Counter[Entry]], limit: Any) -> None:
        super().__init__()
        self._count_fn, self._limit = count_fn, limit

    def start_bundle(self) -> None:
        self._counts: Counter[Entry] = Counter()

    def process(self, batch: list[Any]) -> Iterator[tuple[Entry, int]]:
        self._counts.update(self._count_fn(batch, self._limit))
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
    path = f"{output}/{schema.VOCABULARY_DIR}/{grain}.txt"
    write_text(path, vocabulary_text(vocabularies.get(grain, [])))
    return path
