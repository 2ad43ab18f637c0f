"""One run of preprocessing: checks the input, runs the pipeline, checks the outcome, writes the manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam.accounting import (
    EVENT_KINDS,
    EVENTS,
    ITEMS,
    SOURCES,
    Dropped,
    check_balance,
    check_rejected,
    read_counters,
    table,
)
from beam.config import PreprocessConfig
from beam.events import event_columns
from beam.items import item_layout
from beam.local import make_pipeline, run
from beam.output import clear, split_counts, write_manifest
from beam.pipeline import build
from beam.sources import match_files, read_head
from tfrs_mmse import cli, schema
from tfrs_mmse.cli import CommandError


def preprocess(
    events: Sequence[str],
    items: Sequence[str],
    output: str,
    config: PreprocessConfig,
    beam_flags: Sequence[str] = (),
) -> dict[str, Any]:
    """Preprocesses logs; see `beam.preprocess`.

    Args:
        events: Patterns of the event log's files; none for a catalogue without events.
        items: Patterns of the catalogue's files.
        output: The directory to write.
        config: The configuration.
        beam_flags: Pipeline options of Beam, as on its command line.

    Returns:
        The summary: `output`, `num_items`, `splits`, `vocabularies` (sizes) and `accounting`.

    Raises:
        CommandError: the input cannot be used, or too much of it cannot.
    """
    item_files = match_files(items, source=ITEMS)
    event_files = match_files(events, source=EVENTS) if events else []
    path, rows = read_head(item_files, source=ITEMS)
    layout = item_layout(rows, config, path=path)
    columns = {}
    if event_files:
        path, rows = read_head(event_files, source=EVENTS)
        columns = event_columns(rows, config.event_columns, path=path)
    if layout.unused:
        cli.say(
            f"columns not used: {', '.join(layout.unused)}; give them a role in --config"
        )
    clear(output)

    pipeline = make_pipeline(beam_flags)
    build(
        pipeline,
        event_files=event_files,
        event_columns=columns,
        item_files=item_files,
        layout=layout,
        config=config,
        output=output,
    )
    cli.say(
        f"preprocessing {len(event_files)} event files and {len(item_files)} item files into {output}"
    )
    counters = read_counters(run(pipeline), (*SOURCES, EVENT_KINDS, *schema.SPLITS))

    used = {source: counters[source] for source in SOURCES}
    cli.say(table(used))
    check_balance(used)
    check_rejected(used, max_rejected=config.max_rejected, output=output)
    splits = split_counts(counters) if event_files else {}
    if event_files:
        check_events(counters, splits, config)
    files = {EVENTS: event_files, ITEMS: item_files}
    return write_manifest(
        output,
        layout=layout,
        config=config,
        accounting=used,
        splits=splits,
        sources=files,
    )


def check_events(
    counters: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, Mapping[str, int]],
    config: PreprocessConfig,
) -> None:
    """Fails when the events are valid, but nothing can be learned or measured with them.

    Raises:
        CommandError: no clicks, no item of the catalogue, or a split without requests.
    """
    kinds, dropped = counters[EVENT_KINDS], counters[EVENTS]
    num_events = sum(kinds.values())
    if not kinds.get("click", 0) + kinds.get("order", 0):
        raise CommandError(
            f"none of the {num_events} events is a click or an order; without clicks there is nothing to learn from: "
            "check that the log's clicks are among the files, and how its events are named"
        )
    if dropped.get(Dropped.UNKNOWN_ITEM.counter, 0) == num_events:
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
