"""Puts the figures of finished cells beside the table (`benchmarks.quality.figures`)."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality import cells, figures, utility
from benchmarks.quality.cells import BM25, Cell
from benchmarks.quality.data_sets import DataSet
from benchmarks.quality.figures import DataSetFigures, Kept
from tfrs_mmse import cli, metrics, per_query
from tfrs_mmse.metrics import Figures

METRICS = {
    **{level: names for level, (_, names) in metrics.SEGMENTS.items()},
    utility.LEVEL: (*metrics.SEGMENTS[utility.LEVEL][1], utility.METRIC),
}
"""By level."""


def without_kept(output: Path, data_set: DataSet, wanted: Sequence[Cell]) -> list[Cell]:
    """The cells of a data set whose figures, of the config and data that they have today, are not kept."""
    path = figures.path_of(output, data_set.data, data_set.split)
    kept = [k.description for k in figures.read(path).kept] if path.is_file() else []
    return [cell for cell in wanted if cell.description() not in kept]


def add(output: Path, finished: Sequence[Cell]) -> None:
    """Keeps the figures of finished cells of one data set, and of BM25; those that are there are replaced.

    Args:
        output: The directory of the table.
        finished: The cells.

    Raises:
        CommandError: they, or what is kept, are of different queries, levels or items, or a system's seeds differ in
            their settings.
    """
    data_set = finished[0].data_set
    bm25 = cells.bm25_cell(data_set)
    _check_tasks([*finished, *([bm25] if bm25 else [])])
    path = figures.path_of(output, data_set.data, data_set.split)
    former = _former(path, finished[0]) if path.is_file() else []

    gains = utility.read_gains(data_set.truth) if data_set.truth else None
    new = [_kept(cell, gains) for cell in finished]
    if bm25 and not any(k.system == BM25 for k in former):
        new.append(_kept_bm25(bm25, gains))
    replaced = {(k.system, k.seed) for k in new}
    kept = [*(k for k in former if (k.system, k.seed) not in replaced), *new]
    kept.sort(key=lambda k: (k.system, k.seed))
    _check_settings(data_set, kept)

    result = finished[0].result()
    figures.write(
        path,
        DataSetFigures(
            data=data_set.data,
            split=data_set.split,
            source=data_set.source,
            task=result["task"],
            num_queries=result["num_queries"],
            num_items=result["num_items"],
            kept=tuple(kept),
        ),
    )


def _former(path: Path, cell: Cell) -> list[Kept]:
    """What is kept of the same examples."""
    former = figures.read(path)
    if former.task != cell.result()["task"]:
        raise cli.CommandError(
            f"{path} holds figures of other queries or items than {cell.folder}: remove it, or give another --output"
        )
    examples = cell.data_set.fingerprint()
    same = [k for k in former.kept if k.description["examples"] == examples]
    if others := len(former.kept) - len(same):
        cli.say(f"{path} held {others} cells of other examples, which are dropped")
    return same


def _kept(cell: Cell, gains: utility.Gains | None) -> Kept:
    found = _read(cell, cell.system, cells.RUN, gains)
    return Kept(cell.system, cell.seed, cell.description(), cell.facts(), found)


def _kept_bm25(cell: Cell, gains: utility.Gains | None) -> Kept:
    description = {
        "examples": cell.data_set.fingerprint(),
        "parameters": cell.result()[BM25],
    }
    return Kept(BM25, 0, description, {}, _read(cell, BM25, cells.BM25_RUN, gains))


def _read(cell: Cell, system: str, run: str, gains: utility.Gains | None) -> Figures:
    found = per_query.read(cell.evaluation / cells.PER_QUERY, system)
    if gains is not None:
        found[utility.LEVEL][utility.METRIC] = utility.figures_of_run(
            gains, cell.queries(), cell.folder / run
        )
    return {
        level: {name: found[level][name] for name in names if name in found[level]}
        for level, names in METRICS.items()
        if level in found
    }


def _check_tasks(evaluated: Sequence[Cell]) -> None:
    first, *others = evaluated
    for other in others:
        if other.result()["task"] != first.result()["task"]:
            raise cli.CommandError(
                f"{first.folder} and {other.folder} were evaluated on different queries or items: remove the older one"
            )


def _check_settings(data_set: DataSet, kept: Sequence[Kept]) -> None:
    """Makes sure that a system's seeds differ in nothing else."""
    first: dict[str, Kept] = {}
    for cell in kept:
        former = first.setdefault(cell.system, cell)
        if cell.settings != former.settings:
            raise cli.CommandError(
                f"{data_set.name} {cell.system}: seeds {former.seed} and {cell.seed} were trained with different "
                f"settings ({former.settings} and {cell.settings}): give --redo with one of them for all seeds, or "
                "another --output"
            )
