"""One run of preprocessing: checks the input, runs the pipeline, checks the outcome, writes the manifest."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beam import progress
from beam.accounting import (
    EVENTS,
    ITEMS,
    LEVELS,
    SOURCES,
    Dropped,
    check_balance,
    check_rejected,
    read_counters,
    table,
)
from beam.config import PreprocessConfig
from beam.events import NO_EVENTS, event_layout
from beam.items import item_layout
from beam.local import make_pipeline, run
from beam.output import abandon, begin, finish, split_counts, write_manifest
from beam.pipeline import build
from beam.reading import plain_size
from beam.sources import match_files, read_head
from tfrs_mmse import cli, schema
from tfrs_mmse.cli import CommandError

_SHARD_BYTES = 32 << 20  # of unpacked logs
_MIN_SHARDS, _MAX_SHARDS = 8, 4096


def preprocess(
    events: Sequence[str],
    items: Sequence[str],
    output: str,
    config: PreprocessConfig,
    beam_flags: Sequence[str] = (),
    *,
    redact: bool = False,
) -> dict[str, Any]:
    """Preprocesses logs; see `beam.preprocess`.

    Args:
        events: Patterns of the event log's files; none for a catalogue without events.
        items: Patterns of the catalogue's files.
        output: The directory to write.
        config: The configuration.
        beam_flags: Pipeline options of Beam, as on its command line.
        redact: Whether rejected events are left out of the dead letters.

    Returns:
        The summary: `output`, `num_items`, `splits`, `vocabularies` (sizes) and `accounting`.

    Raises:
        CommandError: the input cannot be used, or too much of it cannot.
    """
    item_files = match_files(items, source=ITEMS)
    event_files = match_files(events, source=EVENTS) if events else {}
    path, rows = read_head(list(item_files), source=ITEMS)
    layout = item_layout(rows, config, path=path)
    events_layout = NO_EVENTS
    if event_files:
        path, rows = read_head(list(event_files), source=EVENTS)
        events_layout = event_layout(rows, config, path=path)
    if layout.unused:
        cli.say(
            f"columns not used: {', '.join(layout.unused)}; give them a role in --config"
        )
    num_bytes = plain_size(item_files) + plain_size(event_files)
    config = dataclasses.replace(
        config, num_shards=config.num_shards or _num_shards(num_bytes)
    )
    folder = begin(output)
    try:
        pipeline = make_pipeline(beam_flags, num_bytes=num_bytes)
        build(
            pipeline,
            event_files=event_files,
            event_layout=events_layout,
            item_files=item_files,
            item_layout=layout,
            config=config,
            output=folder,
            redact=redact,
        )
        cli.say(
            f"preprocessing {len(event_files)} event files and {len(item_files)} item files into {output}"
        )
        with progress.shown():
            result = run(pipeline)
        counters = read_counters(result, (*SOURCES, LEVELS, *schema.SPLITS))
        used = {source: counters[source] for source in SOURCES}
        cli.say(table(used))
        check_balance(used)
        check_rejected(used, max_rejected=config.max_rejected, letters=folder)
        splits = split_counts(counters) if event_files else {}
        if event_files:
            check_events(counters, splits, config)
        summary = write_manifest(
            folder,
            layout=layout,
            config=config,
            accounting=used,
            splits=splits,
            sources={EVENTS: list(event_files), ITEMS: list(item_files)},
        )
        finish(output)
    except BaseException:
        abandon(output)
        raise
    return {"output": output, **summary}


def _num_shards(num_bytes: int) -> int:
    return min(max(_MIN_SHARDS, math.ceil(num_bytes / _SHARD_BYTES)), _MAX_SHARDS)


def check_events(
    counters: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, Mapping[str, int]],
    config: PreprocessConfig,
) -> None:
    """Fails when the events are valid, but nothing can be learned or measured with them.

    Raises:
        CommandError: no clicks, no item of the catalogue, or a split without requests.
    """
    levels, dropped = counters[LEVELS], counters[EVENTS]
    num_events = sum(levels.values())
    if not levels.get("clicked", 0) + levels.get("ordered", 0):
        raise CommandError(
            f"none of the {num_events} events is a click or an order; without clicks there is nothing to learn from: "
            "check that the log's clicks are among the files, and how its events are named"
        )
    num_unknown = dropped.get(Dropped.UNKNOWN_ITEM.counter, 0)
    if (
        num_unknown
        and num_unknown + dropped.get(Dropped.ORDER_UNATTRIBUTED.counter, 0)
        == num_events
    ):
        raise CommandError(
            f"the catalogue has none of the items that the {num_events} events name; "
            "check that --events and --items belong together and write item_id alike"
        )
    empty = [split for split in schema.SPLITS if not splits[split]["requests"]]
    if len(empty) == len(schema.SPLITS):
        raise CommandError(
            f"no request with a click on an item of the catalogue is left of {num_events} events; "
            "the table above says where they went"
        )
    if empty:
        kept = schema.TEST if empty[0] == schema.TRAIN else schema.TRAIN
        advice = (
            "take more queries"
            if config.split_by == "query"
            else "take a longer period or --split-by query"
        )
        raise CommandError(
            f"all {splits[kept]['requests']} requests fell into the {kept} split and the {empty[0]} split is empty "
            f"(split_by {config.split_by}, test_fraction {config.test_fraction}); {advice}, or change test_fraction"
        )
