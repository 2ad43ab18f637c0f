"""`quality.json` and `quality.md` from all figures that are kept."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import figures, markdown
from benchmarks.quality.cells import BM25
from benchmarks.quality.figures import DataSetFigures, Kept
from benchmarks.quality.markdown import Facts
from benchmarks.quality.rows import Row, by_system, rows_of
from tfrs_mmse import cli

JSON, MARKDOWN = "quality.json", "quality.md"


def write(output: Path, systems: Sequence[str]) -> list[Row]:
    """Writes both files from the figures that are kept in the directory; without any, nothing is written.

    Args:
        output: The directory.
        systems: All systems there are, in the order of the tables.

    Returns:
        All rows.

    Raises:
        CommandError: kept figures can not be read.
    """
    rows: list[Row] = []
    facts: dict[str, Facts] = {}
    for data_set in figures.read_all(output):
        if kept := current(data_set, systems):
            rows += rows_of(data_set.data, data_set.split, by_system(kept))
            facts[data_set.name] = facts_of(data_set, kept)
    if rows:
        _replace(output / JSON, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        _replace(output / MARKDOWN, markdown.render(rows, facts))
    return rows


def current(data_set: DataSetFigures, systems: Sequence[str]) -> list[Kept]:
    """The cells whose config is still what their system stands for, in the order of the systems; seeds ascend."""
    result = []
    for cell in (cell for system in systems for cell in data_set.of(system)):
        if changes := cell.changes():
            cli.say(
                f"{data_set.name} {cell.system} {cell.seed} is left out of the table, changed are {', '.join(changes)}"
            )
        else:
            result.append(cell)
    return result


def facts_of(data_set: DataSetFigures, kept: Sequence[Kept]) -> Facts:
    """What there is to know about the cells of one data set."""
    trained = [cell for cell in kept if cell.system != BM25]
    of_system: dict[str, list[Kept]] = {}
    for cell in trained:
        of_system.setdefault(cell.system, []).append(cell)
    bm25 = data_set.of(BM25)
    return Facts(
        num_queries=data_set.num_queries,
        num_items=data_set.num_items,
        source=data_set.source,
        bm25=bm25[0].description["parameters"] if bm25 else {},
        train_seconds={
            system: statistics.fmean(seconds)
            for system, cells in of_system.items()
            if (seconds := _known_seconds(cells))
        },
        settings={system: cells[0].settings for system, cells in of_system.items()},
        machines=sorted({_machine(cell.facts["machine"]) for cell in trained}),
    )


def _known_seconds(kept: Sequence[Kept]) -> list[float]:
    seconds = (cell.facts["train_seconds"] for cell in kept)
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
