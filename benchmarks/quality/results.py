"""`quality.json` and `quality.md` from everything that is finished."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import cells, markdown
from benchmarks.quality.cells import BM25, Cell
from benchmarks.quality.data_sets import DataSet
from benchmarks.quality.markdown import Facts
from benchmarks.quality.rows import Row, read_figures, rows_of
from tfrs_mmse import cli

JSON, MARKDOWN = "quality.json", "quality.md"


def write(
    output: Path, data_sets: Sequence[DataSet], systems: Sequence[str]
) -> list[Row]:
    """Writes both files from all finished cells of the data sets, whoever made them.

    Rows of other data sets that `output` holds already are kept. Without any row nothing is written.

    Args:
        output: The directory.
        data_sets: The data sets.
        systems: All systems there are, in the order of the tables.

    Returns:
        All rows.

    Raises:
        CommandError: cells do not fit together (see `read_figures`), or the file that is there is no list of rows.
    """
    new: dict[str, list[Row]] = {}
    facts: dict[str, Facts] = {}
    for data_set in data_sets:
        if finished := cells.finished_cells(data_set, systems):
            figures = read_figures(finished, cells.bm25_cell(data_set))
            new[data_set.name] = rows_of(data_set.data, data_set.split, figures)
            facts[data_set.name] = facts_of(finished)
    by_name: dict[str, list[Row]] = {}
    for row in read_rows(output / JSON):
        by_name.setdefault(f"{row['data']} {row['split']}", []).append(row)
    by_name |= new
    rows = [row for name in sorted(by_name) for row in by_name[name]]
    if not rows:
        return []
    output.mkdir(parents=True, exist_ok=True)
    _replace(output / JSON, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    _replace(output / MARKDOWN, markdown.render(rows, facts))
    return rows


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier table; none if there is no file.

    Raises:
        CommandError: the file holds something else.
    """
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        complete = all(row.keys() >= Row.__annotations__.keys() for row in rows)
    except (ValueError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise cli.CommandError(
            f"expected rows of an earlier table in {path}, but it holds something else: remove it or give another "
            "--output"
        )
    return rows


def facts_of(finished: Sequence[Cell]) -> Facts:
    """What there is to know about the cells of one data set."""
    by_system: dict[str, list[Cell]] = {}
    for cell in finished:
        by_system.setdefault(cell.system, []).append(cell)
    result = finished[0].result()
    data_set = finished[0].data_set
    bm25 = cells.bm25_cell(data_set)
    return Facts(
        num_queries=result["num_queries"],
        num_items=result["num_items"],
        source=data_set.source,
        bm25=bm25.result().get(BM25, {}) if bm25 else {},
        train_seconds={
            system: statistics.fmean(seconds)
            for system, of_system in by_system.items()
            if (seconds := _known_seconds(of_system))
        },
        settings={s: list(c[0].settings) for s, c in by_system.items()},
        machines=sorted({_machine(cell.facts()["machine"]) for cell in finished}),
    )


def _known_seconds(finished: Sequence[Cell]) -> list[float]:
    seconds = (cell.facts()["train_seconds"] for cell in finished)
    return [s for s in seconds if s is not None]


def _machine(description: dict[str, Any]) -> str:
    """In a few words; how busy others kept it is no property of it."""
    tensorflow = description["libraries"]["tensorflow"]
    jobs = description["jobs"]
    at_once = f", {jobs} trainings at a time" if jobs > 1 else ""
    return (
        f"{description['cpu']}, {description['cores']} cores, {description['memory_gb']:.0f} GB, TensorFlow "
        f"{tensorflow}{at_once}"
    )


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
