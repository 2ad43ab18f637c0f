"""The rows of `quality.json`: one for each data set, split, system, level and metric."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from benchmarks.quality import pairwise
from benchmarks.quality.cells import BM25
from benchmarks.quality.figures import Kept
from benchmarks.quality.keeping import METRICS
from tfrs_mmse.metrics import Figures


class Row(TypedDict):
    """One figure of one system.

    Attributes:
        data: `elo7` or `simulator`.
        split: `query` or `time`.
        system: A preset, or `bm25`.
        level: `clicked` (clicked or ordered items), `ordered`, or `all` (levels as gains).
        metric: As `recall@10`.
        mean: Of the seeds' means over the queries that have the figure.
        std: Sample standard deviation of the seeds' means; None with a single seed. It is 0 for BM25, which draws
            nothing at random and has its figures for any seed.
        seeds: The seeds.
        better_than: The systems that this one is significantly better than (`benchmarks.quality.pairwise`).
    """

    data: str
    split: str
    system: str
    level: str
    metric: str
    mean: float
    std: float | None
    seeds: list[int]
    better_than: list[str]


SeedFigures = dict[str, dict[int, Figures]]
"""By system and seed."""


def by_system(kept: Sequence[Kept]) -> SeedFigures:
    """The figures of cells of one data set; BM25 has its own for every seed that any system has."""
    seeds = sorted({cell.seed for cell in kept if cell.system != BM25})
    figures: SeedFigures = {}
    for cell in kept:
        own = seeds if cell.system == BM25 else [cell.seed]
        figures.setdefault(cell.system, {}).update(dict.fromkeys(own, cell.figures))
    return figures


def rows_of(data: str, split: str, figures: SeedFigures) -> list[Row]:
    """The rows of one data set: by level and metric, then by system.

    A system's figure of one query is the mean of its seeds; these are compared between the systems. Metrics that no
    query has are left out.

    Args:
        data: Name of the data set.
        split: Its split.
        figures: Per-query figures; of the same queries in the same order.
    """
    rows: list[Row] = []
    for level, names in METRICS.items():
        for metric in names:
            by_seed = {
                system: {seed: f[level][metric] for seed, f in seeds.items()}
                for system, seeds in figures.items()
                if all(metric in f.get(level, {}) for f in seeds.values())
            }
            rows.extend(_rows_of_metric(data, split, level, metric, by_seed))
    return rows


def _rows_of_metric(
    data: str,
    split: str,
    level: str,
    metric: str,
    by_seed: Mapping[str, Mapping[int, np.ndarray]],
) -> list[Row]:
    values = {s: np.stack(list(seeds.values())) for s, seeds in by_seed.items()}
    if not any((~np.isnan(v)).any() for v in values.values()):
        return []
    better = pairwise.better_than({s: v.mean(axis=0) for s, v in values.items()})
    rows: list[Row] = []
    for system, seeds in by_seed.items():
        means = np.nanmean(values[system], axis=1)
        std = round(float(means.std(ddof=1)), 6) if len(means) > 1 else None
        rows.append(
            Row(
                data=data,
                split=split,
                system=system,
                level=level,
                metric=metric,
                mean=round(float(means.mean()), 6),
                std=0.0 if system == BM25 else std,
                seeds=list(seeds),
                better_than=better[system],
            )
        )
    return rows
