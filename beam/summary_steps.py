"""The steps of the pipeline that work on a bucket of queries or of counts: what all others know together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from beam import positives, statistics, vocabulary
from beam.accounting import count
from beam.buckets import BucketFn, sent, tagged
from beam.config import PreprocessConfig
from beam.shards import write_text
from beam.tables import by_key, pack, to_askers
from tfrs_mmse import schema
from tfrs_mmse.schema import GrainKind


class KnowQueriesFn(BucketFn):
    """Tells each asker what the train split knows about its queries. Counts queries and their tokens."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"queries": positives.QUERIES, "pairs": positives.PAIRS})
        self._config = config

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        known, contested = positives.answer(
            tables["queries"], tables["pairs"], max_positives=self._config.max_positives
        )
        yield from sent("positives", to_askers(known))
        yield from sent("contested", to_askers(contested))
        queries = (
            tables["queries"]
            .group_by("query")
            .agg(pl.col("num_train").sum(), pl.col("num_test").sum())
        )
        for name, column in ((schema.TRAIN, "num_train"), (schema.TEST, "num_test")):
            count(name, "queries", int((queries[column] > 0).sum()))
        yield from statistics.sent_on(statistics.of_queries(queries))
        train = queries.filter(pl.col("num_train") > 0).sort("query")
        counts = vocabulary.count_tokens(
            train["query"], train["num_train"], max_words=self._config.max_query_words
        )
        yield from sent("counts", by_key(counts, "entry", self._config.num_shards))


class ChooseEntriesFn(BucketFn):
    """Adds up the counts of some tokens and values, and keeps those that may get ids."""

    def __init__(self, config: PreprocessConfig, numbers: Sequence[str]) -> None:
        super().__init__({"items": vocabulary.COUNTS, "queries": vocabulary.COUNTS})
        self._config, self._numbers = config, list(numbers)

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        counts = vocabulary.sum_counts(tables.values())
        is_number = pl.col("grain").is_in(self._numbers)
        chosen = vocabulary.most_frequent(
            counts.filter(~is_number),
            min_count=self._config.min_count,
            max_entries=self._config.max_vocabulary,
        )
        yield from sent(
            "chosen", [(0, pack(pl.concat([chosen, counts.filter(is_number)])))]
        )


class WriteVocabulariesFn(BucketFn):
    """Chooses among what all buckets chose, and writes `vocab/GRAIN.txt` of every grain: one entry a line."""

    def __init__(
        self, config: PreprocessConfig, kinds: Mapping[str, GrainKind], output: str
    ) -> None:
        super().__init__({"chosen": vocabulary.COUNTS})
        self._config, self._kinds, self._output = config, dict(kinds), output

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        numbers = [
            grain for grain, kind in self._kinds.items() if kind is GrainKind.NUMBER
        ]
        is_number = pl.col("grain").is_in(numbers)
        entries = vocabulary.most_frequent(
            tables["chosen"].filter(~is_number),
            min_count=1,
            max_entries=self._config.max_vocabulary,
        )
        chosen = pl.concat([entries, tables["chosen"].filter(is_number)])
        for grain, lines in vocabulary.vocabularies(
            chosen, self._kinds, number_buckets=self._config.number_buckets
        ):
            write_text(
                f"{self._output}/{schema.VOCABULARY_DIR}/{grain}.txt",
                vocabulary.vocabulary_text(lines),
            )
            yield from tagged("vocabularies", [(grain, lines)])


class WriteStatisticsFn(BucketFn):
    """Adds up what all steps counted, and writes it."""

    def __init__(self, output: str) -> None:
        super().__init__({"statistics": statistics.STATISTICS})
        self._output = output

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        counts = statistics.add_up([tables["statistics"]])
        write_text(
            f"{self._output}/{schema.STATS}", json.dumps(statistics.summary(counts))
        )
        yield from ()
