"""The preprocessing pipeline: a table of contents of the other modules. Sources and sinks appear only here."""

import functools

import apache_beam as beam

from beam.accounting import EVENTS, ITEMS, ORDERS
from beam.buckets import PerBucket
from beam.catalogue_steps import EncodeItemsFn, KeepItemsFn, route_items
from beam.config import PreprocessConfig
from beam.events import levels, parse_events
from beam.items import parse_items
from beam.logs import Logs
from beam.reading import ReadLog
from beam.request_steps import (
    AttributeFn,
    BuildRequestsFn,
    CollectSlotsFn,
    EncodeRequestsFn,
    FinishRequestsFn,
    SplitRequestsFn,
    route_events,
)
from beam.splits import FindPeriod
from beam.summary_steps import (
    ChooseEntriesFn,
    KnowQueriesFn,
    WriteStatisticsFn,
    WriteVocabulariesFn,
)
from tfrs_mmse.schema import GrainKind


def build(
    pipeline: beam.Pipeline,
    *,
    logs: Logs,
    config: PreprocessConfig,
    output: str,
    redact: bool,
    depot: str | None,
) -> None:
    """Adds all steps of preprocessing to a pipeline.

    Every collection holds parts of tables in buckets (`tables.py`). Requests stay in the bucket that their id gives
    them, which is also their shard. What they need of an item or of a query comes to them from the bucket of that item
    or query: each bucket of requests asks for a distinct one once, however popular it is.

    Args:
        pipeline: The pipeline.
        logs: What to read.
        config: The configuration, with a number of shards.
        output: The directory that the shards, vocabularies and dead letters are written to.
        redact: Whether rejected events are left out of the dead letters.
        depot: A folder for what is shuffled (`beam/depot.py`); None: the runner shuffles it.
    """
    spec = logs.items.feature_spec(config)
    kinds = {grain.name: grain.kind for grain in spec.grains}
    numbers = [name for name, kind in kinds.items() if kind is GrainKind.NUMBER]
    num_shards = config.num_shards
    per_bucket = functools.partial(PerBucket, num_buckets=num_shards, depot=depot)

    rows = pipeline | "ReadItems" >> ReadLog(
        ITEMS,
        logs.item_files,
        parse=functools.partial(parse_items, layout=logs.items),
        route=functools.partial(route_items, num_buckets=num_shards),
        tags=["rows"],
        output=output,
        redact=False,
    )
    events = [
        pipeline
        | f"Read{source.title()}"
        >> ReadLog(
            source,
            files,
            columns=layout.read_columns(),
            parse=functools.partial(parse_events, layout=layout),
            route=functools.partial(
                route_events, level_of=levels(config), num_buckets=num_shards
            ),
            tags=["sightings", "touches"],
            output=output,
            redact=redact,
        )
        for source, files, layout in (
            (EVENTS, logs.event_files, logs.events),
            (ORDERS, logs.order_files, logs.orders),
        )
        if files or source == EVENTS
    ]
    attributed = {
        f"touches.{n}": log.touches for n, log in enumerate(events)
    } | "AttributeOrders" >> per_bucket(AttributeFn(config), outputs=["sightings"])
    shown = {
        "sightings.attributed": attributed.sightings,
        **{f"sightings.{n}": log.sightings for n, log in enumerate(events)},
    } | "CollectSlots" >> per_bucket(CollectSlotsFn(config), outputs=["slots", "asked"])
    catalogue = {"rows": rows.rows, "asked": shown.asked} | "KeepItems" >> per_bucket(
        KeepItemsFn(logs.items, config), outputs=["items", "known", "counts"]
    )
    built = {
        "slots": shown.slots,
        "known": catalogue.known,
    } | "BuildRequests" >> per_bucket(
        BuildRequestsFn(config), outputs=["requests", "periods", "statistics"]
    )
    period = built.periods | "FindPeriod" >> beam.CombineGlobally(FindPeriod())
    parted = {"requests": built.requests} | "SplitRequests" >> per_bucket(
        SplitRequestsFn(config),
        beam.pvalue.AsSingleton(period),
        outputs=["requests", "queries", "pairs"],
    )
    queries = {
        "queries": parted.queries,
        "pairs": parted.pairs,
    } | "KnowQueries" >> per_bucket(
        KnowQueriesFn(config),
        outputs=["positives", "contested", "counts", "statistics"],
    )
    finished = {
        "requests": parted.requests,
        "positives": queries.positives,
        "contested": queries.contested,
    } | "FinishRequests" >> per_bucket(
        FinishRequestsFn(num_shards),
        outputs=["requests", "positives", "num_train", "counted"],
    )
    chosen = {
        "items": catalogue.counts,
        "queries": queries.counts,
    } | "ChooseEntries" >> per_bucket(
        ChooseEntriesFn(config, numbers), outputs=["chosen"]
    )
    written = {"chosen": chosen.chosen} | "WriteVocabularies" >> PerBucket(
        WriteVocabulariesFn(config, kinds, output),
        num_buckets=1,
        depot=depot,
        outputs=["vocabularies"],
    )
    vocabularies = beam.pvalue.AsDict(written.vocabularies)
    num_train = beam.pvalue.AsSingleton(
        finished.num_train | "SumTrainSlots" >> beam.CombineGlobally(sum)
    )
    encoded = {
        "items": catalogue.items,
        "counted": finished.counted,
    } | "EncodeItems" >> per_bucket(
        EncodeItemsFn(logs.items, spec, output, num_shards),
        vocabularies,
        num_train,
        outputs=["pieces", "statistics"],
    )
    statistics = {
        "statistics.requests": built.statistics,
        "statistics.queries": queries.statistics,
        "statistics.items": encoded.statistics,
    }
    if logs.event_files:
        written_requests = {
            "requests": finished.requests,
            "positives": finished.positives,
            "pieces": encoded.pieces,
        } | "EncodeRequests" >> per_bucket(
            EncodeRequestsFn(spec, output, num_shards),
            vocabularies,
            outputs=["statistics"],
        )
        statistics["statistics.tokens"] = written_requests.statistics
    _ = statistics | "WriteStatistics" >> PerBucket(
        WriteStatisticsFn(output), num_buckets=1, depot=depot, outputs=[]
    )
