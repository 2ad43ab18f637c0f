"""What was measured of indexes, which of them is chosen, and the picture of it. The choice is a pure function."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from serving.index.scann_build import ScannSettings

BATCH = 32  # queries of the batches that are timed
# Exact search is chosen if it takes at most so many times what the fastest does: it finds everything on any server.
_EXACT_MAY_TAKE = 1.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """An index under some settings.

    Attributes:
        settings: Of ScaNN; None for exact search.
        recall: Recall@k against exact search, on the tuning queries.
        alone_ms: Milliseconds for a query that comes alone.
        batch_ms: Milliseconds for each query of a batch of 32.
    """

    settings: ScannSettings | None
    recall: float
    alone_ms: float
    batch_ms: float

    @property
    def kind(self) -> str:
        return "scann" if self.settings else "exact"

    @property
    def ms(self) -> float:
        """Milliseconds per query if half of all queries come alone and half in batches: what "fast" means here."""
        return (self.alone_ms + self.batch_ms) / 2

    def to_dict(self) -> dict[str, Any]:
        """For the manifest, rounded to what can be measured."""
        settings = dataclasses.asdict(self.settings) if self.settings else {}
        times = {"ms": self.ms, "alone_ms": self.alone_ms, "batch_ms": self.batch_ms}
        return {
            "kind": self.kind,
            **settings,
            "recall": round(self.recall, 4),
            **{name: float(f"{value:.3g}") for name, value in times.items()},
        }


class Choice(NamedTuple):
    """One of the measured indexes, and a sentence that says why."""

    measured: Measured
    reason: str


def choose(curve: Sequence[Measured], target_recall: float) -> Choice:
    """The fastest that reaches the target; exact search, if it is not slower by more than a tenth.

    Args:
        curve: All that were measured, exact search among them, which reaches every target.
        target_recall: Recall@k on the tuning queries.
    """
    exact = min((m for m in curve if m.settings is None), key=lambda m: m.ms)
    reaching = [m for m in curve if m.settings and m.recall >= target_recall]
    if not reaching:
        best = max((m.recall for m in curve if m.settings), default=None)
        tried = (
            "the catalogue is too small for ScaNN"
            if best is None
            else f"ScaNN reaches recall {best:.3f}, less than the target of {target_recall}"
        )
        return Choice(exact, f"{tried}: exact search, {exact.ms:.3g} ms a query")
    fastest = min(reaching, key=lambda m: m.ms)
    times = f"exact search takes {exact.ms:.3g} ms a query, ScaNN {fastest.ms:.3g} ms at recall {fastest.recall:.3f}"
    if exact.ms <= _EXACT_MAY_TAKE * fastest.ms:
        return Choice(exact, times)
    return Choice(fastest, times)


def pareto(curve: Sequence[Measured]) -> list[Measured]:
    """Those that no other beats in both time and recall, from fast to thorough."""
    front: list[Measured] = []
    for m in sorted(curve, key=lambda m: (m.ms, -m.recall)):
        if not front or m.recall > front[-1].recall:
            front.append(m)
    return front


def plot(
    path: Path, curve: Sequence[Measured], choice: Choice, target_recall: float
) -> None:
    """Writes recall over time per query as SVG: every setting, the front of the best, the choice and the target."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfrs-mmse"}):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for (leaves, block), color in zip(_builds(curve), _COLORS, strict=False):
            points = [
                m
                for m in curve
                if m.settings
                and (m.settings.num_leaves, m.settings.dimensions_per_block)
                == (leaves, block)
            ]
            label = f"{leaves} leaves" if leaves else "no tree"
            axes.scatter(
                [m.ms for m in points],
                [m.recall for m in points],
                s=18,
                color=color,
                label=f"ScaNN, {label}, {block} dimensions a block",
            )
        exact = [m for m in curve if m.settings is None]
        axes.scatter(
            [m.ms for m in exact],
            [m.recall for m in exact],
            s=40,
            marker="s",
            color="#555555",
            label="exact",
        )
        front = pareto(curve)
        axes.plot(
            [m.ms for m in front],
            [m.recall for m in front],
            color="#9aa3ab",
            linewidth=1,
            zorder=0,
            label="best at their time",
        )
        axes.axhline(target_recall, color="#9aa3ab", linestyle=":", label="target")
        axes.scatter(
            [choice.measured.ms],
            [choice.measured.recall],
            s=160,
            facecolor="none",
            edgecolor="#000000",
            label="chosen",
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.set_xlabel(
            f"milliseconds per query (mean of alone and in batches of {BATCH})"
        )
        axes.set_ylabel("recall against exact search")
        axes.grid(color="#e6eaee")
        axes.set_axisbelow(True)
        axes.legend(loc="lower right", fontsize="small")
        figure.savefig(path, format="svg", metadata={"Date": None})


_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00")  # Okabe and Ito's


def _builds(curve: Sequence[Measured]) -> list[tuple[int, int]]:
    return sorted(
        {
            (m.settings.num_leaves, m.settings.dimensions_per_block)
            for m in curve
            if m.settings
        }
    )
