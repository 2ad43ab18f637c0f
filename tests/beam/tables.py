"""Small tables for tests."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from beam.batches import Column


def table(schema: Mapping[str, Any], *rows: tuple[Any, ...]) -> pl.DataFrame:
    """A table of these rows, whose values stand in the schema's order."""
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


def listed(column: Column) -> list[Any]:
    """The values of a column of a batch."""
    return column if isinstance(column, list) else column.to_pylist()
