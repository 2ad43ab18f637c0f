"""The steps of the pipeline that work on one bucket at a time: they route, count and write; rules are elsewhere."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from beam import attribution, examples, featurize, positives, statistics, vocabulary
from beam.accounting import EVENTS, ITEMS, LEVELS, USED, Dropped, count, count_dropped
from beam.buckets import BucketFn, sent, tagged
from beam.config import PreprocessConfig
from beam.items import UPDATED_AT, ItemLayout, text_column
from beam.parsing import LINE
from beam.requests import (
    SIGHTINGS,
    SLOTS,
    UnclickedPolicy,
    build_requests,
    collect_slots,
    combine_events,
    keep_known,
)
from beam.shards import shard_name, write_records, write_text
from beam.splits import SPLIT_SLOTS, Period, fold_queries, split
from beam.tables import Part, Schema, bucket, fingerprint, pack, partition
from tfrs_mmse import features, schema
from tfrs_mmse.schema import GrainKind, Level

FILE = "file"  # number of the file that a row of the catalogue stood in

# An item that a bucket of requests asks for.
ASKED: dict[str, type[pl.DataType]] = {"asker": pl.UInt32, "item_id": pl.String}
# The same with the number of the bucket's train slots that hold it.
COUNTED: dict[str, type[pl.DataType]] = {**ASKED, "num_train": pl.UInt64}
_KNOWN: dict[str, type[pl.DataType]] = {"item_id": pl.String}


def _drop(dropped: Counter[Dropped]) -> None:
    for policy, num_rows in dropped.items():
        count_dropped(policy, num_rows)


def _parts(
    frame: pl.DataFrame, by: str, num_buckets: int
) -> Iterator[tuple[int, bytes]]:
    return partition(frame, bucket(frame[by], num_buckets))


def _to_askers(frame: pl.DataFrame) -> Iterator[tuple[int, bytes]]:
    return partition(frame.drop("asker"), frame["asker"])


def _own(frame: pl.DataFrame, number: int) -> list[Part]:
    """What stays in its bucket until the next step."""
    return [(number, pack(frame))] if frame.height else []


def _asked(item_ids: pl.DataFrame, asker: int) -> pl.DataFrame:
    return item_ids.with_columns(pl.lit(asker, pl.UInt32).alias("asker"))


def _statistics(tables: Iterable[pl.DataFrame]) -> Iterator[Any]:
    return iter(sent("statistics", [(0, pack(statistics.add_up(tables)))]))


def item_rows(layout: ItemLayout) -> Schema:
    """The columns of a table of the catalogue's rows, as `route_items` sends them."""
    return {**layout.table_schema(), LINE: pl.UInt64, FILE: pl.UInt32}


def keep_items(rows: pl.DataFrame) -> pl.DataFrame:
    """One row of each item: the latest, of equally late ones the first. Counts the others as dropped."""
    rows = rows.sort("item_id", -pl.col(UPDATED_AT), FILE, LINE)
    items = rows.unique("item_id", keep="first", maintain_order=True).drop(
        UPDATED_AT, FILE, LINE
    )
    count_dropped(Dropped.DUPLICATE_ITEM, rows.height - items.height, ITEMS)
    return items


class AttributeFn(BucketFn):
    """Gives what has no request one, or drops it; goes on as sightings."""

    def __init__(self, config: PreprocessConfig, num_buckets: int) -> None:
        super().__init__({"touches": attribution.TOUCHES})
        self._config, self._num_buckets = config, num_buckets

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        events, num_dropped = attribution.attribute(
            tables["touches"], window_seconds=self._config.attribution_hours * 3600
        )
        count_dropped(Dropped.ORDER_UNATTRIBUTED, num_dropped)
        sightings = combine_events(events)
        yield from sent("sightings", _parts(sightings, "request_id", self._num_buckets))


class CollectSlotsFn(BucketFn):
    """Makes slots of sightings, and asks which of their items the catalogue has."""

    def __init__(self, config: PreprocessConfig, num_buckets: int) -> None:
        super().__init__({"sightings": SIGHTINGS})
        self._config, self._num_buckets = config, num_buckets

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots, dropped = collect_slots(
            tables["sightings"], max_items=self._config.max_request_items
        )
        _drop(dropped)
        yield from sent("slots", _own(slots, number))
        asked = _asked(slots.select("item_id").unique(), number)
        yield from sent("asked", _parts(asked, "item_id", self._num_buckets))


class KeepItemsFn(BucketFn):
    """Keeps one row of each item. Tells each asker what it knows."""

    def __init__(self, layout: ItemLayout, config: PreprocessConfig) -> None:
        super().__init__({"rows": item_rows(layout), "asked": ASKED})
        self._kinds = dict(layout.attributes)
        self._texts = [text_column(name) for name in layout.text_fields]
        self._config = config

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        items = keep_items(tables["rows"])
        yield from sent("items", _own(items, number))
        known = tables["asked"].join(items.select("item_id"), on="item_id", how="semi")
        yield from sent("known", _to_askers(known))

        texts = pl.concat([items[column].rename("text") for column in self._texts])
        counted = [
            vocabulary.count_tokens(
                texts.filter(texts != ""), max_words=self._config.max_field_words
            ),
            vocabulary.count_attributes(items, self._kinds),
        ]
        yield from sent(
            "counts",
            _parts(vocabulary.sum_counts(counted), "entry", self._config.num_shards),
        )


class BuildRequestsFn(BucketFn):
    """Keeps known items and applies the policies; says what period the requests are of."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"slots": SLOTS, "known": _KNOWN})
        self._policy = UnclickedPolicy.of(config)

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots, dropped = keep_known(tables["slots"], tables["known"])
        _drop(dropped)
        shown = statistics.of_slots(slots)
        slots, dropped = build_requests(slots, self._policy)
        _drop(dropped)
        slots = fold_queries(slots)
        yield from _statistics([*shown, *statistics.of_requests(slots)])
        yield from sent("requests", _own(slots, number))
        if slots.height:
            moments = slots["timestamp"]
            yield from tagged("periods", [(moments.min(), moments.max())])


class SplitRequestsFn(BucketFn):
    """Puts each request into a split, and asks what its query's other requests know."""

    def __init__(self, config: PreprocessConfig, num_buckets: int) -> None:
        super().__init__({"requests": SLOTS})
        self._config, self._num_buckets = config, num_buckets

    def process(self, element: Any, period: Period) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots = split(tables["requests"], self._config, period)
        yield from sent("requests", _own(slots, number))
        queries, pairs = positives.ask(slots, number)
        yield from sent("queries", _parts(queries, "query", self._num_buckets))
        yield from sent("pairs", _parts(pairs, "query", self._num_buckets))


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
        yield from sent("positives", _to_askers(known))
        yield from sent("contested", _to_askers(contested))
        queries = (
            tables["queries"]
            .group_by("query")
            .agg(pl.col("num_train").sum(), pl.col("num_test").sum())
        )
        for name, column in ((schema.TRAIN, "num_train"), (schema.TEST, "num_test")):
            count(name, "queries", int((queries[column] > 0).sum()))
        yield from _statistics(statistics.of_queries(queries))
        train = queries.filter(pl.col("num_train") > 0).sort("query")
        counts = vocabulary.count_tokens(
            train["query"], train["num_train"], max_words=self._config.max_query_words
        )
        yield from sent("counts", _parts(counts, "entry", self._config.num_shards))


class FinishRequestsFn(BucketFn):
    """Takes from each request what its query wants elsewhere, and asks for the features of the other items."""

    def __init__(self, num_buckets: int) -> None:
        super().__init__(
            {
                "requests": SPLIT_SLOTS,
                "positives": positives.POSITIVES,
                "contested": positives.CONTESTED,
            }
        )
        self._num_buckets = num_buckets

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots = tables["requests"]
        is_contested = positives.is_contested(slots, tables["contested"])
        count_dropped(
            Dropped.UNCLICKED_BUT_POSITIVE,
            int(slots.filter(is_contested)["num_rows"].sum()),
        )
        slots = slots.filter(~is_contested)
        yield from sent("requests", _own(slots, number))
        yield from sent("positives", _own(tables["positives"], number))
        asked = slots.group_by("item_id").agg(
            pl.col("is_train").sum().cast(pl.UInt64).alias("num_train")
        )
        yield from tagged("num_train", [int(slots["is_train"].sum())])
        asked = _asked(asked, number).select(*COUNTED)
        yield from sent("counted", _parts(asked, "item_id", self._num_buckets))


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


class FeaturizingFn(BucketFn):
    """Builds its lookup tables in the worker, from the vocabularies that come as a side input."""

    def __init__(self, schemas: Mapping[str, Schema], spec: schema.FeatureSpec) -> None:
        super().__init__(schemas)
        self._spec = spec
        self._featurizer: features.Featurizer | None = None

    def featurizer(
        self, vocabularies: Mapping[str, Sequence[str]]
    ) -> features.Featurizer:
        if self._featurizer is None:
            self._featurizer = features.Featurizer(self._spec, vocabularies)
        return self._featurizer


class EncodeItemsFn(FeaturizingFn):
    """Looks up the ids of a bucket's items, writes their records, and sends the features to whoever asked."""

    def __init__(
        self, layout: ItemLayout, spec: schema.FeatureSpec, output: str, num_shards: int
    ) -> None:
        columns = layout.table_schema()
        del columns[UPDATED_AT]
        super().__init__({"items": columns, "counted": COUNTED}, spec)
        self._output, self._num_shards = output, num_shards

    def process(
        self, element: Any, vocabularies: Mapping[str, Sequence[str]], num_train: int
    ) -> Iterator[Any]:
        number, tables = self.tables(element)
        counts = tables["counted"].group_by("item_id").agg(pl.col("num_train").sum())
        share = (
            (pl.col("num_train").fill_null(0) / max(num_train, 1))
            .log()
            .cast(pl.Float32)
        )
        items = (
            tables["items"]
            .join(counts, on="item_id", how="left")
            .with_columns(
                log_probability=share, order=fingerprint(tables["items"]["item_id"])
            )
            .sort("order", "item_id")
        )
        items = featurize.encode_items(items, self._spec, self.featurizer(vocabularies))
        name = shard_name(schema.ITEMS, number, self._num_shards, ".tfrecord.gz")
        write_records(
            f"{self._output}/{name}", examples.encode_items(items, self._spec)
        )
        count(ITEMS, USED, items.height)
        yield from _statistics(statistics.of_items(items, self._spec))
        encoded = items.select(*featurize.features_schema(self._spec))
        for asker, asked in (
            tables["counted"].partition_by("asker", as_dict=True).items()
        ):
            answer = encoded.join(asked, on="item_id", how="semi")
            yield from sent("features", [(int(asker[0]), pack(answer))])


class EncodeRequestsFn(FeaturizingFn):
    """Writes the records of a bucket's requests, each split into a shard of its own."""

    def __init__(self, spec: schema.FeatureSpec, output: str, num_shards: int) -> None:
        schemas: dict[str, Schema] = {
            "requests": SPLIT_SLOTS,
            "positives": positives.POSITIVES,
            "features": featurize.features_schema(spec),
        }
        super().__init__(schemas, spec)
        self._output, self._num_shards = output, num_shards

    def process(
        self, element: Any, vocabularies: Mapping[str, Sequence[str]]
    ) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots = tables["requests"]
        slots = slots.with_columns(order=fingerprint(slots["request_id"]))
        slots = slots.sort(
            "order", "request_id", -pl.col("level").cast(pl.Int8), "position", "item_id"
        )
        requests = (
            slots.group_by("request_id", maintain_order=True)
            .agg(
                pl.col("query").first(),
                pl.col("is_train").first(),
                pl.len().alias("num_slots"),
            )
            .join(tables["positives"], on="query", how="left", maintain_order="left")
        )
        slots = slots.join(
            tables["features"], on="item_id", how="left", maintain_order="left"
        )
        if (missing := slots.filter(pl.col("log_probability").is_null())).height:
            raise ValueError(
                f"{missing.height} slots did not get their items' features, first {missing['item_id'][0]!r}"
            )
        featurizer = self.featurizer(vocabularies)
        for name, is_train in ((schema.TRAIN, True), (schema.TEST, False)):
            of_split = pl.col("is_train") == is_train
            path = f"{self._output}/{shard_name(name, number, self._num_shards, '.tfrecord.gz')}"
            records = examples.encode_requests(
                requests.filter(of_split),
                slots.filter(of_split),
                self._spec,
                featurizer,
            )
            write_records(path, records)
            self._count(name, requests.filter(of_split), slots.filter(of_split))
            queries = requests.filter(of_split)["query"]
            ids = examples.query_ids(queries, featurizer)
            yield from _statistics(statistics.of_query_tokens(name, ids))

    def _count(self, name: str, requests: pl.DataFrame, slots: pl.DataFrame) -> None:
        count(name, "requests", requests.height)
        count(EVENTS, USED, int(slots["num_rows"].sum()))
        for level in (Level.UNCLICKED, Level.CLICKED, Level.ORDERED):
            count(name, level.name.lower(), int((slots["level"] == level).sum()))


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


def route_events(
    events: pl.DataFrame, _: int, *, level_of: pl.Series, num_buckets: int
) -> Iterator[Any]:
    """Sends events on: those with a request as sightings, and to the attribution what takes part in it."""
    by_kind = events.with_columns(level=level_of.gather(events["kind"]))
    for level, number in by_kind["level"].value_counts().iter_rows():
        count(LEVELS, Level(level).name.lower(), number)
    ignored = by_kind.filter(pl.col("level") == Level.RANDOM)
    count_dropped(Dropped.IGNORED_EVENT, ignored.height)
    known = by_kind.filter(pl.col("level") != Level.RANDOM)
    has_request = pl.col("request_id") != ""
    lost = known.filter(~has_request & (pl.col("user_id") == ""))
    count_dropped(Dropped.ORDER_UNATTRIBUTED, lost.height)
    sightings = combine_events(known.filter(has_request))
    yield from sent("sightings", _parts(sightings, "request_id", num_buckets))
    touches = attribution.touches(known)
    keys = touches.select(pl.concat_str("user_id", "item_id", separator="\n"))[:, 0]
    yield from sent("touches", partition(touches, bucket(keys, num_buckets)))


def route_items(items: pl.DataFrame, file: int, *, num_buckets: int) -> Iterator[Any]:
    """Sends the rows of the catalogue to the buckets of their items."""
    rows = items.with_columns(pl.lit(file, pl.UInt32).alias(FILE))
    yield from sent("rows", _parts(rows, "item_id", num_buckets))
