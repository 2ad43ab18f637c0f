"""A sample of all logs, parsed by the same rules as all of them will be."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from beam import findings, guesses
from beam.accounting import EVENTS, ITEMS, ORDERS
from beam.batches import Batch, Fields, Section
from beam.config import EVENT_FLAGS, PreprocessConfig
from beam.event_layout import event_layout, order_layout
from beam.events import EVENTS_SCHEMA, parse_events
from beam.items import UPDATED_AT, ItemLayout, item_layout, parse_items, text_column
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
    orders: Sequence[str],
    items: Sequence[str],
    config: PreprocessConfig,
    *,
    num_rows: int,
    now: float,
) -> dict[str, Any]:
    """Looks at all logs; see `beam.inspect`.

    Args:
        events: Patterns of the event log's files.
        orders: Patterns of files of orders from another system, if there is one.
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
    order_files = list(match_files(orders, source=ORDERS))
    order_path, order_rows = (
        read_head(order_files, source=ORDERS) if order_files else ("", [])
    )
    config, proposed = propose(event_rows, order_rows, item_rows, config)

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
    table, rejected = log.table, {EVENTS: log.rejected}
    if order_files:
        orders_layout = order_layout(order_rows, config, path=order_path)
        others = sample(
            order_files,
            lambda batch: parse_events(batch, orders_layout),
            EVENTS_SCHEMA,
            num_rows,
        )
        table = pl.concat([table, others.table])
        rejected[ORDERS] = others.rejected
    facts = findings.of_events(table, now=now)
    covered = findings.coverage(table, catalogue.table) if catalogue.is_whole else None
    sentences = findings.warnings(
        facts,
        coverage=covered,
        events=table,
        seen_in_both=findings.seen_before(table),
    )
    return {
        "config": proposed,
        "events": {**facts, "share_in_catalogue": covered},
        "items": {
            **_items(catalogue, items_layout),
            "unused_columns": list(items_layout.unused),
        },
        "rejected": {**rejected, ITEMS: catalogue.rejected},
        "warnings": sentences,
    }


def propose(
    event_rows: Sequence[Fields],
    order_rows: Sequence[Fields],
    item_rows: Sequence[Fields],
    config: PreprocessConfig,
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
    if (config.item_timestamp_unit, config.item_timestamp_format) == (
        defaults.item_timestamp_unit,
        defaults.item_timestamp_format,
    ):
        updated = of_items.get(UPDATED_AT, UPDATED_AT)
        guessed = guesses.clock([row.get(updated) for row in item_rows])
        changed |= {f"item_{name}": value for name, value in guessed.items()}
    if (config.timestamp_unit, config.timestamp_format) == (
        defaults.timestamp_unit,
        defaults.timestamp_format,
    ):
        changed |= guesses.clock(moments)
    of_orders = guesses.order_columns(order_rows, config.order_columns)
    changed["order_columns"] = of_orders
    if (config.order_timestamp_unit, config.order_timestamp_format) == (
        defaults.order_timestamp_unit,
        defaults.order_timestamp_format,
    ):
        moments = [
            row.get(of_orders.get("timestamp", "timestamp")) for row in order_rows
        ]
        guessed = guesses.clock(moments)
        changed |= {f"order_{name}": value for name, value in guessed.items()}
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
