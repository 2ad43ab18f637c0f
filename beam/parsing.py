"""From rows to tables: the rules of values, column by column; what they do not take is looked at row by row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Fields
from beam.values import Results

LINE = "line"


class Parsed(NamedTuple):
    """A parsed batch.

    Attributes:
        table: The good rows, in no order, and the line that each of them stood in.
        rejected: The index in the batch of each other readable row, and the reason.
    """

    table: pl.DataFrame
    rejected: list[tuple[int, Rejected]]


def parse_batch(
    batch: Batch,
    values: Mapping[str, Results],
    schema: Mapping[str, type[pl.DataType]],
    is_good: pl.Expr,
    rule: Callable[[Fields], Sequence[Any]],
) -> Parsed:
    """A table of the batch's good rows.

    Args:
        batch: The batch.
        values: For each column of the schema what `values.each` made of it: None where the value was not accepted.
        schema: The columns of the table, in the order of the rule's result.
        is_good: What must hold of a row besides.
        rule: Decides about a row that is not certainly good, by all its fields exactly as they were written: gives
            its values, or raises RejectedRow with the first thing that is wrong.
    """
    table = pl.DataFrame(values, schema=schema)
    good = table.select(pl.all_horizontal(pl.all().is_not_null()) & is_good)[:, 0]
    good = good.fill_null(False)
    table = table.with_columns(pl.Series(LINE, batch.lines, pl.UInt64)).filter(good)
    saved: list[Sequence[Any]] = []
    rejected: list[tuple[int, Rejected]] = []
    for index in good.not_().arg_true().to_list():
        try:
            saved.append((*rule(batch.rows.fields(index)), batch.lines[index]))
        except RejectedRow as e:
            rejected.append((index, e.reason))
    if saved:
        table.extend(pl.DataFrame(saved, schema=table.schema, orient="row"))
    return Parsed(table, rejected)
