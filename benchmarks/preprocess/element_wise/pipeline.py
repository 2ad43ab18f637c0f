"""The element-wise pipeline: a table of contents of the other modules."""

import functools
from collections.abc import Iterator, Sequence

import apache_beam as beam

from beam.accounting import EVENTS, ITEMS
from beam.config import PreprocessConfig
from beam.event_layout import EventLayout
from beam.events import parse_event
from beam.items import ItemLayout
from benchmarks.preprocess.element_wise.featurize import EncodeItems
from benchmarks.preprocess.element_wise.join import JoinItems
from benchmarks.preprocess.element_wise.records import (
    EncodeItemRecords,
    EncodeRequests,
)
from benchmarks.preprocess.element_wise.requests import (
    AttributeActions,
    BuildRequests,
    MatchCatalogue,
)
from benchmarks.preprocess.element_wise.rows import ReadRows, TakeActions, make_item
from benchmarks.preprocess.element_wise.shards import KeyedRecord, WriteRecords
from benchmarks.preprocess.element_wise.splits import (
    FoldQueries,
    KnowPositives,
    SplitRequests,
)
from benchmarks.preprocess.element_wise.vocabularies import (
    BuildVocabularies,
    WriteVocabularies,
)
from tfrs_mmse import schema


def build(
    pipeline: beam.Pipeline,
    *,
    event_files: Sequence[str],
    event_layout: EventLayout,
    item_files: Sequence[str],
    item_layout: ItemLayout,
    config: PreprocessConfig,
    output: str,
) -> None:
    """Adds all steps to a pipeline; the arguments are those of `beam.pipeline.build`."""
    spec = item_layout.feature_spec(config)
    num_shards = config.num_shards
    item_rule = functools.partial(make_item, layout=item_layout)
    item_rows = pipeline | "ReadItems" >> ReadRows(ITEMS, item_files, item_rule)
    event_rule = functools.partial(parse_event, layout=event_layout)
    event_rows = pipeline | "ReadEvents" >> ReadRows(EVENTS, event_files, event_rule)
    actions = event_rows | "TakeActions" >> TakeActions(config)

    items, actions = (item_rows, actions) | "MatchCatalogue" >> MatchCatalogue()
    requests = (
        actions
        | "AttributeActions" >> AttributeActions(config.attribution_hours * 3600)
        | "BuildRequests" >> BuildRequests(config)
        | "FoldQueries" >> FoldQueries()
        | "SplitRequests" >> SplitRequests(config)
        | "KnowPositives" >> KnowPositives(config.max_positives)
    )
    vocabularies = (items, requests) | "BuildVocabularies" >> BuildVocabularies(
        spec, config
    )
    encoded = (items, vocabularies) | "EncodeItems" >> EncodeItems(spec)
    joined_items, placed = (encoded, requests) | "JoinItems" >> JoinItems()
    item_records = joined_items | "EncodeItemRecords" >> EncodeItemRecords(
        spec, num_shards
    )
    request_records = (
        requests,
        placed,
        vocabularies,
    ) | "EncodeRequests" >> EncodeRequests(spec, num_shards)

    _ = vocabularies | "WriteVocabularies" >> WriteVocabularies(output, spec)
    _ = item_records | "WriteItems" >> WriteRecords(output, schema.ITEMS, num_shards)
    for split in schema.SPLITS:
        records = request_records | f"Choose_{split}" >> beam.FlatMap(
            _of_split, split
        ).with_output_types(KeyedRecord)
        _ = records | f"Write_{split}" >> WriteRecords(output, split, num_shards)


def _of_split(record: tuple[str, KeyedRecord], split: str) -> Iterator[KeyedRecord]:
    if record[0] == split:
        yield record[1]
