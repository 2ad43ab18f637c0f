"""A sample of both logs, parsed by the same rules as all of them will be."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from beam import findings, guesses
from beam.accounting import EVENTS, ITEMS
from beam.batches import Batch, Fields, Section
from beam.config import EVENT_FLAGS, PreprocessConfig
from beam.events import EVENTS_SCHEMA, event_layout, parse_events
from beam.items import ItemLayout, item_layout, parse_items, text_column
from beam.parsing import LINE, Parsed
from beam.sources import match_files, read_batches, read_head

_FILES = 4  # that the sample is taken from, spread over all
_SHOWN = 200  # characters of an example


class Sample(NamedTuple):
    """Some rows of a source.

    Attributes:
        table: The good ones.
        rejected: Reason -> how many rows, and one of them.
        is_whole: Whether these are all rows that there are.
    """

    table: pl.DataFrame
    rejected: dict[str, dict[str, Any]]
    is_whole: bool


def inspect(
    events: Sequence[str],
    items: Sequence[str],
    config: PreprocessConfig,
    *,
    num_rows: int,
    now: float,
) -> dict[str, Any]:
    """Looks at both logs; see `beam.inspect`.

    Args:
        events: Patterns of the event log's files.
        items: Patterns of the catalogue's files.
        config: What is known already.
        num_rows: Rows of each source to read.
        now: The present moment, in seconds since 1970.

    Raises:
        CommandError: there is nothing to read, or a column that must be there is not.
    """
    item_files = list(match_files(items, source=ITEMS))
    event_files = list(match_files(events, source=EVENTS))
    item_path, item_rows = read_head(item_files, source=ITEMS)
    event_path, event_rows = read_head(event_files, source=EVENTS)
    config, proposed = propose(event_rows, item_rows, config)

    items_layout = item_layout(item_rows, config, path=item_path)
    events_layout = event_layout(event_rows, config, path=event_path)
    catalogue = sample(
        item_files,
        lambda batch: parse_items(batch, items_layout),
        items_layout.table_schema(),
        num_rows,
    )
    log = sample(
        event_files,
        lambda batch: parse_events(batch, events_layout),
        EVENTS_SCHEMA,
        num_rows,
    )
    facts = findings.of_events(log.table, now=now)
    covered = (
        findings.coverage(log.table, catalogue.table) if catalogue.is_whole else None
    )
    sentences = findings.warnings(
        facts,
        coverage=covered,
        events=log.table,
        seen_in_both=findings.seen_before(log.table),
    )
    return {
        "config": proposed,
        "events": {**facts, "share_in_catalogue": covered},
        "items": {
            **_items(catalogue, items_layout),
            "unused_columns": list(items_layout.unused),
        },
        "rejected": {EVENTS: log.rejected, ITEMS: catalogue.rejected},
        "warnings": sentences,
    }


def propose(
    event_rows: Sequence[Fields], item_rows: Sequence[Fields], config: PreprocessConfig
) -> tuple[PreprocessConfig, dict[str, Any]]:
    """A config with what could be guessed, and those of its fields that differ from the defaults."""
    columns = guesses.event_columns(event_rows, config.event_columns)
    present = {column for row in event_rows for column in row}
    for name in EVENT_FLAGS:
        if name in columns and not guesses.is_flag(
            row.get(columns[name]) for row in event_rows
        ):
            del columns[name]
    if columns.get("event", "event") in present:
        columns = {
            name: column for name, column in columns.items() if name not in EVENT_FLAGS
        }
        values = (row.get(columns.get("event", "event")) for row in event_rows)
        names = guesses.event_names(values, config.event_names)
    else:
        names = config.event_names
    moments = [row.get(columns.get("timestamp", "timestamp")) for row in event_rows]
    of_items = guesses.item_columns(item_rows, config.item_columns)
    changed: dict[str, Any] = {
        "event_columns": columns,
        "event_names": names,
        "item_columns": of_items,
        "roles": guesses.roles(item_rows, of_items, config.roles),
    }
    defaults = PreprocessConfig()
    if (config.timestamp_unit, config.timestamp_format) == (
        defaults.timestamp_unit,
        defaults.timestamp_format,
    ):
        changed |= guesses.clock(moments)
    config = dataclasses.replace(config, **changed)
    proposed = {
        name: value
        for name, value in config.to_dict().items()
        if value != getattr(defaults, name)
    }
    return config, proposed


def sample(
    files: Sequence[str],
    parse: Callable[[Batch], Parsed],
    schema: Mapping[str, Any],
    num_rows: int,
) -> Sample:
    """The first rows of some files, spread evenly over all of them."""
    chosen = (
        [files[n * (len(files) - 1) // max(_FILES - 1, 1)] for n in range(_FILES)]
        if len(files) > _FILES
        else files
    )
    share = -(-num_rows // len(chosen))
    tables = [pl.DataFrame(schema={**schema, LINE: pl.UInt64})]
    rejected: dict[str, dict[str, Any]] = {}
    is_whole = len(chosen) == len(files)
    for path in chosen:
        for batch, is_cut in _first(path, share):
            parsed = parse(batch)
            tables.append(parsed.table)
            bad = [(row.reason, row.text) for row in batch.unreadable]
            bad += [
                (reason, batch.rows.text(index)) for index, reason in parsed.rejected
            ]
            for reason, text in bad:
                told = rejected.setdefault(
                    str(reason), {"rows": 0, "example": text[:_SHOWN]}
                )
                told["rows"] += 1
            is_whole = is_whole and not is_cut
    return Sample(pl.concat(tables).drop(LINE), rejected, is_whole)


def _first(path: str, num_rows: int) -> Iterator[tuple[Batch, bool]]:
    """The first batches of a file, and whether more rows may follow after what is wanted."""
    read = 0
    for batch in read_batches(Section(path), batch_rows=min(num_rows, 20_000)):
        read += len(batch.lines) + len(batch.unreadable)
        yield batch, read >= num_rows
        if read >= num_rows:
            return


def _items(catalogue: Sample, layout: ItemLayout) -> dict[str, Any]:
    return findings.of_items(
        catalogue.table, {text_column(name): name for name in layout.text_fields}
    )
