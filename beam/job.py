"""One run of preprocessing: checks the input, runs the pipeline, checks the outcome, writes the manifest."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from apache_beam.runners.runner import PipelineResult

from beam import depot as depots
from beam import output as outputs
from beam import progress
from beam.accounting import (
    EVENTS,
    ITEMS,
    LEVELS,
    PARTS,
    SOURCES,
    check_balance,
    check_parts,
    check_rejected,
    is_lost,
    merge_orders,
    read_counters,
    table,
)
from beam.checks import check_events, odd_split
from beam.config import PreprocessConfig
from beam.local import ONE_PROCESS, chooses_processes, make_pipeline, run
from beam.logs import Logs, look_at
from beam.pipeline import build
from beam.stats_files import read_stats, write_stats
from tfrs_mmse import cli, schema

_SHARD_BYTES = 32 << 20  # of unpacked logs
_MIN_SHARDS, _MAX_SHARDS = 8, 4096


def preprocess(
    events: Sequence[str],
    items: Sequence[str],
    output: str,
    config: PreprocessConfig,
    beam_flags: Sequence[str] = (),
    *,
    orders: Sequence[str] = (),
    redact: bool = False,
    compare_to: str = "",
) -> dict[str, Any]:
    """Preprocesses logs; see `beam.preprocess`.

    Args:
        events: Patterns of the event log's files; none for a catalogue without events.
        items: Patterns of the catalogue's files.
        output: The directory to write.
        config: The configuration.
        beam_flags: Pipeline options of Beam, as on its command line.
        orders: Patterns of files of orders from another system.
        redact: Whether rejected events are left out of the dead letters.
        compare_to: Directory of an earlier run, to say what has changed; `""`: the one in the output directory, if any.

    Returns:
        The summary: `output`, `num_items`, `splits`, `vocabularies` (sizes), `accounting` and `drift`.

    Raises:
        CommandError: the input cannot be used, or too much of it cannot.
    """
    output = outputs.named(output)
    logs = look_at(events, orders, items, config)
    if logs.items.unused:
        cli.say(
            f"columns not used: {', '.join(logs.items.unused)}; give them a role in --config"
        )
    config = dataclasses.replace(
        config, num_shards=config.num_shards or _num_shards(logs.num_bytes)
    )
    before = read_stats(compare_to or output, must_exist=bool(compare_to))

    def attempt(flags: Sequence[str]) -> dict[str, Any]:
        folder = outputs.begin(output)
        try:
            with depots.opened(folder, flags) as depot:
                pipeline = make_pipeline(flags, num_bytes=logs.num_bytes)
                build(
                    pipeline,
                    logs=logs,
                    config=config,
                    output=folder,
                    redact=redact,
                    depot=depot,
                )
                with progress.shown():
                    result = run(pipeline)
            summary = _conclude(
                result, logs, config, folder, before, compare_to or output
            )
            outputs.finish(output)
        except BaseException:
            outputs.abandon(output)
            raise
        return {"output": output, **summary}

    cli.say(
        f"preprocessing {len(logs.event_files) + len(logs.order_files)} event files and {len(logs.item_files)} item "
        f"files into {output}"
    )
    try:
        return attempt(beam_flags)
    except cli.CommandError as e:
        # Seen with Beam 2.77 in one of two runs on 12 million events, and never with one process.
        if not is_lost(e) or not chooses_processes(
            beam_flags, num_bytes=logs.num_bytes
        ):
            raise
        cli.say(f"{e}. Working again, in one process")
        return attempt([*beam_flags, *ONE_PROCESS])


def _conclude(
    result: PipelineResult,
    logs: Logs,
    config: PreprocessConfig,
    folder: str,
    before: dict[str, Any] | None,
    compared_to: str,
) -> dict[str, Any]:
    """Checks what came out, and adds what is known only now: statistics and manifest."""
    counters = read_counters(result, (*SOURCES, LEVELS, PARTS, *schema.SPLITS))
    used = merge_orders(counters)
    cli.say(table(used))
    check_parts(counters[PARTS])
    check_balance(used)
    check_rejected(
        {source: counters[source] for source in SOURCES},
        max_rejected=config.max_rejected,
        letters=folder,
    )
    splits = outputs.split_counts(counters) if logs.event_files else {}
    if logs.event_files:
        check_events(counters, splits, config)
        if sentence := odd_split(splits, config):
            cli.say(sentence)
    drift = write_stats(
        folder, accounting=used, splits=splits, before=before, compared_to=compared_to
    )
    for change in drift:
        cli.say(f"changed since {compared_to}: {change}")
    summary = outputs.write_manifest(
        folder,
        layout=logs.items,
        config=config,
        accounting=used,
        splits=splits,
        sources={
            EVENTS: [*logs.event_files, *logs.order_files],
            ITEMS: list(logs.item_files),
        },
    )
    return {**summary, "drift": [str(change) for change in drift]}


def _num_shards(num_bytes: int) -> int:
    return min(max(_MIN_SHARDS, math.ceil(num_bytes / _SHARD_BYTES)), _MAX_SHARDS)
