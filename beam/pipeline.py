"""The preprocessing pipeline: a table of contents of the other modules. Sources and sinks appear only here."""

import functools
from collections.abc import Iterator, Sequence

import apache_beam as beam

from beam.accounting import EVENT_KINDS, EVENTS, ITEMS, count
from beam.attribution import AttributeOrders
from beam.catalogue import MatchCatalogue
from beam.config import PreprocessConfig
from beam.events import KINDS, Event, parse_event
from beam.examples import EncodeItemRecords, EncodeRequests
from beam.featurize import EncodeItems
from beam.items import ItemLayout, parse_item
from beam.join import JoinItems
from beam.parsing import Place, ReadLog, WriteDeadLetters
from beam.requests import BuildRequests, Request, UnclickedPolicy
from beam.shards import KeyedRecord, WriteRecords
from beam.splits import FoldQueries, KnowPositives, SplitRequests
from beam.vocabulary import BuildVocabularies, WriteVocabularies
from tfrs_mmse import schema

_EVENT_NAMES = {int(level): name for name, level in KINDS.items()}


def build(
    pipeline: beam.Pipeline,
    *,
    event_files: Sequence[str],
    event_columns: dict[str, str],
    item_files: Sequence[str],
    layout: ItemLayout,
    config: PreprocessConfig,
    output: str,
) -> None:
    """Adds all steps of preprocessing to a pipeline.

    Args:
        pipeline: The pipeline.
        event_files: Files of the event log; none for a catalogue without events.
        event_columns: The log's column for each of ours.
        item_files: Files of the catalogue.
        layout: What the catalogue's columns are used for.
        config: The configuration.
        output: The directory that the shards, vocabularies and dead letters are written to.
    """
    spec = layout.feature_spec(config)
    num_shards = config.num_shards

    item_rule = functools.partial(parse_item, layout=layout)
    item_rows, bad_items = pipeline | "ReadItems" >> ReadLog(
        ITEMS, item_files, item_rule
    )
    event_rule = functools.partial(parse_event, columns=event_columns)
    event_rows, bad_events = pipeline | "ReadEvents" >> ReadLog(
        EVENTS, event_files, event_rule
    )
    events = event_rows | "CountEvents" >> beam.Map(_count_event).with_output_types(
        Event
    )

    items, known_events = (item_rows, events) | "MatchCatalogue" >> MatchCatalogue()
    requests = (
        known_events
        | "AttributeOrders" >> AttributeOrders(config.attribution_hours * 3600)
        | "BuildRequests" >> BuildRequests(UnclickedPolicy.of(config))
        | "FoldQueries" >> FoldQueries()
        | "SplitRequests" >> SplitRequests(config)
        | "KnowPositives" >> KnowPositives(config.max_positives)
    )
    train_queries = (
        requests
        | "OnlyTrain" >> beam.Filter(_is_train)
        | "TakeQuery" >> beam.Map(_query).with_output_types(str)
    )

    vocabularies = (items, train_queries) | "BuildVocabularies" >> BuildVocabularies(
        spec, config
    )
    encoded_items = (items, vocabularies) | "EncodeItems" >> EncodeItems(spec)
    joined_items, placed_items = (encoded_items, requests) | "JoinItems" >> JoinItems()
    item_records = joined_items | "EncodeItemRecords" >> EncodeItemRecords(
        spec, num_shards
    )
    request_records = (
        requests,
        placed_items,
        vocabularies,
    ) | "EncodeRequests" >> EncodeRequests(spec, num_shards)

    _ = vocabularies | "WriteVocabularies" >> WriteVocabularies(output, spec)
    _ = item_records | "WriteItems" >> WriteRecords(output, schema.ITEMS, num_shards)
    _ = bad_items | "WriteBadItems" >> WriteDeadLetters(ITEMS, output, num_shards)
    if event_files:
        for split in schema.SPLITS:
            records = request_records | f"Choose_{split}" >> beam.FlatMap(
                _of_split, split
            ).with_output_types(KeyedRecord)
            _ = records | f"Write_{split}" >> WriteRecords(output, split, num_shards)
        _ = bad_events | "WriteBadEvents" >> WriteDeadLetters(
            EVENTS, output, num_shards
        )


def _count_event(row: tuple[Place, Event]) -> Event:
    count(EVENT_KINDS, _EVENT_NAMES[row[1].level])
    return row[1]


def _is_train(request: Request) -> bool:
    return request.split == schema.TRAIN


def _query(request: Request) -> str:
    return request.query


def _of_split(record: tuple[str, KeyedRecord], split: str) -> Iterator[KeyedRecord]:
    if record[0] == split:
        yield record[1]
