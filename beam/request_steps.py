"""The steps of the pipeline that work on a bucket of requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from beam import attribution, examples, featurize, positives, statistics
from beam.accounting import (
    EVENTS,
    LEVELS,
    USED,
    Dropped,
    count,
    count_all_dropped,
    count_dropped,
    lost,
)
from beam.buckets import BucketFn, sent, tagged
from beam.catalogue_steps import COUNTED, FeaturizingFn
from beam.config import PreprocessConfig
from beam.requests import (
    SIGHTINGS,
    SLOTS,
    UnclickedPolicy,
    build_requests,
    collect_slots,
    combine_events,
    keep_known,
)
from beam.shards import shard_name, write_records
from beam.splits import SPLIT_SLOTS, Period, fold_queries, split
from beam.tables import Schema, bucket, by_key, fingerprint, partition, staying
from tfrs_mmse import schema
from tfrs_mmse.schema import Level

_KNOWN: dict[str, type[pl.DataType]] = {"item_id": pl.String}


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
    yield from sent("sightings", by_key(sightings, "request_id", num_buckets))
    touches = attribution.touches(known)
    keys = touches.select(pl.concat_str("user_id", "item_id", separator="\n"))[:, 0]
    yield from sent("touches", partition(touches, bucket(keys, num_buckets)))


class AttributeFn(BucketFn):
    """Gives what has no request one, or drops it; goes on as sightings."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"touches": attribution.TOUCHES})
        self._config = config

    def process(self, element: Any) -> Iterator[Any]:
        _, tables = self.tables(element)
        events, num_dropped = attribution.attribute(
            tables["touches"], window_seconds=self._config.attribution_hours * 3600
        )
        count_dropped(Dropped.ORDER_UNATTRIBUTED, num_dropped)
        sightings = combine_events(events)
        yield from sent(
            "sightings", by_key(sightings, "request_id", self._config.num_shards)
        )


class CollectSlotsFn(BucketFn):
    """Makes slots of sightings, and asks which of their items the catalogue has."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"sightings": SIGHTINGS})
        self._config = config

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots, dropped = collect_slots(
            tables["sightings"], max_items=self._config.max_request_items
        )
        count_all_dropped(dropped)
        yield from sent("slots", staying(slots, number))
        asked = _asked(slots.select("item_id").unique(), number)
        yield from sent("asked", by_key(asked, "item_id", self._config.num_shards))


class BuildRequestsFn(BucketFn):
    """Keeps known items and applies the policies; says what period the requests are of."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"slots": SLOTS, "known": _KNOWN})
        self._policy = UnclickedPolicy.of(config)

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots, dropped = keep_known(tables["slots"], tables["known"])
        count_all_dropped(dropped)
        shown = statistics.of_slots(slots)
        slots, dropped = build_requests(slots, self._policy)
        count_all_dropped(dropped)
        slots = fold_queries(slots)
        yield from statistics.sent_on([*shown, *statistics.of_requests(slots)])
        yield from sent("requests", staying(slots, number))
        if slots.height:
            moments = slots["timestamp"]
            yield from tagged("periods", [(moments.min(), moments.max())])


class SplitRequestsFn(BucketFn):
    """Puts each request into a split, and asks what its query's other requests know."""

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__({"requests": SLOTS})
        self._config = config

    def process(self, element: Any, period: Period) -> Iterator[Any]:
        number, tables = self.tables(element)
        slots = split(tables["requests"], self._config, period)
        yield from sent("requests", staying(slots, number))
        queries, pairs = positives.ask(slots, number)
        yield from sent("queries", by_key(queries, "query", self._config.num_shards))
        yield from sent("pairs", by_key(pairs, "query", self._config.num_shards))


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
        yield from sent("requests", staying(slots, number))
        yield from sent("positives", staying(tables["positives"], number))
        asked = slots.group_by("item_id").agg(
            pl.col("is_train").sum().cast(pl.UInt64).alias("num_train")
        )
        yield from tagged("num_train", [int(slots["is_train"].sum())])
        asked = _asked(asked, number).select(*COUNTED)
        yield from sent("counted", by_key(asked, "item_id", self._num_buckets))


class EncodeRequestsFn(FeaturizingFn):
    """Writes the records of a bucket's requests, each split into a shard of its own."""

    def __init__(self, spec: schema.FeatureSpec, output: str, num_shards: int) -> None:
        schemas: dict[str, Schema] = {
            "requests": SPLIT_SLOTS,
            "positives": positives.POSITIVES,
            "pieces": examples.slot_schema(spec),
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
        requests = slots.group_by("request_id", maintain_order=True).agg(
            pl.col("query").first(),
            pl.col("is_train").first(),
            pl.len().alias("num_slots"),
        )
        queries = featurize.encode_queries(
            tables["positives"], self._spec, self.featurizer(vocabularies)
        )
        requests = _joined(
            requests, examples.query_pieces(queries, self._spec), "query"
        )
        slots = _joined(slots, tables["pieces"], "item_id")
        for name, is_train in ((schema.TRAIN, True), (schema.TEST, False)):
            of_split = pl.col("is_train") == is_train
            mine, its_slots = requests.filter(of_split), slots.filter(of_split)
            path = f"{self._output}/{shard_name(name, number, self._num_shards, '.tfrecord.gz')}"
            write_records(path, examples.encode_requests(mine, its_slots, self._spec))
            self._count(name, mine, its_slots)
            yield from statistics.sent_on(
                statistics.of_query_tokens(name, mine, self._spec)
            )

    def _count(self, name: str, requests: pl.DataFrame, slots: pl.DataFrame) -> None:
        count(name, "requests", requests.height)
        count(EVENTS, USED, int(slots["num_rows"].sum()))
        for level in statistics.LEVELS:
            count(name, level.name.lower(), int((slots["level"] == level).sum()))


def _joined(rows: pl.DataFrame, answers: pl.DataFrame, key: str) -> pl.DataFrame:
    """Each row with the answer for its key, in their order.

    Raises:
        CommandError: a row has none, though every key was asked for.
    """
    found = answers.with_columns(_found=True)
    rows = rows.join(found, on=key, how="left", maintain_order="left")
    if (missing := rows.filter(pl.col("_found").is_null())).height:
        raise lost(
            f"{missing.height} rows did not get what they asked for, first that of {missing[key][0]!r}"
        )
    return rows.drop("_found")


def _asked(item_ids: pl.DataFrame, asker: int) -> pl.DataFrame:
    return item_ids.with_columns(pl.lit(asker, pl.UInt32).alias("asker"))
