"""The figures of every query, kept beside the table: so it can be added to where the runs behind it are not.

OUTPUT/figures/DATA-SPLIT.parquet has one row for each held-out query, in the order of the queries' bytes, and one
float32 column for each figure of each cell, `SYSTEM/SEED/LEVEL/METRIC`, null where the query has none. What else must
be known is in the schema's metadata, as JSON. Queries and items are not in it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.quality.cells import BM25
from benchmarks.quality.descriptions import differences, with_todays_fields
from tfrs_mmse import cli
from tfrs_mmse.metrics import Figures
from tfrs_mmse.presets import PRESETS
from tfrs_mmse.train import resolve

_KEY = b"quality"


class Kept(NamedTuple):
    """The figures of one cell.

    Attributes:
        system: A preset, or `bm25`.
        seed: Of its training; 0 for `bm25`.
        description: `Cell.description()`; for `bm25` its tuned parameters and the examples.
        facts: `Cell.facts()`; none for `bm25`.
        figures: Of its queries.
    """

    system: str
    seed: int
    description: dict[str, Any]
    facts: dict[str, Any]
    figures: Figures

    @property
    def settings(self) -> list[str]:
        """Overrides of its preset."""
        return self.description.get("settings", [])

    def changes(self) -> list[str]:
        """What differs between its config and the one that its system and settings stand for today."""
        if self.system == BM25:
            return []
        if self.system not in PRESETS:
            return [f"{self.system} is no preset any more"]
        former = self.description["config"]
        now = resolve(self.system, None, [*self.settings, f"seed={self.seed}"])
        return differences(former, now.to_dict())


class DataSetFigures(NamedTuple):
    """The kept cells of one data set.

    Attributes:
        data: Name of the data set.
        split: Its split.
        source: The command that made the logs.
        task: Hash of the queries, their levels and the items, the same for all cells.
        num_queries: Held-out queries.
        num_items: Items to retrieve from.
        kept: One for each system and seed.
    """

    data: str
    split: str
    source: str
    task: str
    num_queries: int
    num_items: int
    kept: tuple[Kept, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.data} {self.split}"

    def of(self, system: str) -> list[Kept]:
        """The cells of a system, by seed."""
        found = [k for k in self.kept if k.system == system]
        return sorted(found, key=lambda k: k.seed)


def path_of(output: Path, data: str, split: str) -> Path:
    """Where the figures of a data set are kept."""
    return output / "figures" / f"{data}-{split}.parquet"


def read_all(output: Path) -> list[DataSetFigures]:
    """The figures of all data sets, by name."""
    return [read(path) for path in sorted(output.glob("figures/*.parquet"))]


def read(path: Path) -> DataSetFigures:
    """Reads the figures of one data set.

    Raises:
        CommandError: the file is none of `write`'s.
    """
    try:
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[_KEY])
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
        raise cli.CommandError(
            f"expected figures of an earlier table in {path}, but it holds something else: remove it or give another "
            "--output"
        ) from None
    by_cell: dict[tuple[str, int], Figures] = {}
    for name in table.column_names:
        system, seed, level, metric = name.split("/")
        values = table[name].to_numpy().astype(np.float64)
        cell = by_cell.setdefault((system, int(seed)), {})
        cell.setdefault(level, {})[metric] = values
    kept = [
        Kept(
            **{**about, "description": with_todays_fields(about["description"])},
            figures=by_cell.get((about["system"], about["seed"]), {}),
        )
        for about in facts.pop("cells")
    ]
    return DataSetFigures(**facts, kept=tuple(kept))


def write(path: Path, figures: DataSetFigures) -> None:
    """Writes the figures of one data set, aside first."""
    columns = {
        f"{kept.system}/{kept.seed}/{level}/{metric}": pa.array(
            values.astype(np.float32), from_pandas=True  # NaN to null
        )
        for kept in figures.kept
        for level, named in kept.figures.items()
        for metric, values in named.items()
    }  # fmt: skip
    facts = figures._asdict()
    facts["cells"] = [
        {k: v for k, v in kept._asdict().items() if k != "figures"}
        for kept in facts.pop("kept")
    ]
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd", compression_level=19)
    part.replace(path)
