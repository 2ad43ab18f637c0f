"""Whether one system is better than another: the figures of the same queries under both, by a test of `ranx`.

The test is the two-sided paired Student's t-test, which is the default of `ranx.compare`, at its level of 0.01. Every
figure is tested by itself; with the seven that are printed, one in about fourteen comparisons of equal systems shows
some difference as significant.
"""

from typing import NamedTuple

import numpy as np
from ranx.statistical_tests import paired_student_t_test

from tfrs_mmse.metrics import Figures

MAX_P = 0.01


class Comparison(NamedTuple):
    """One figure of two systems.

    Attributes:
        difference: Mean of ours minus theirs over the queries; None if there is no query.
        p_value: Of the test; None where it has no answer, with fewer than two queries.
        significant: Whether p_value is at most `MAX_P`.
        better: Queries for which ours is higher.
        worse: Queries for which ours is lower.
        num_queries: Queries that have the figure.
    """

    difference: float | None
    p_value: float | None
    significant: bool
    better: int
    worse: int
    num_queries: int


def compare(ours: Figures, theirs: Figures) -> dict[str, dict[str, Comparison]]:
    """Compares the figures that both systems have, by segment and name.

    Args:
        ours: Figures of Q queries.
        theirs: Figures of the same queries in the same order.
    """
    return {
        segment: {
            name: compare_figure(values, theirs[segment][name])
            for name, values in figures.items()
            if name in theirs[segment]
        }
        for segment, figures in ours.items()
        if segment in theirs
    }


def compare_figure(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Compares two systems by one figure.

    Args:
        ours: [Q] float64, NaN where the query does not have the figure.
        theirs: [Q], NaN for the same queries.
    """
    known = ~np.isnan(ours)
    ours, theirs = ours[known], theirs[known]
    difference = ours - theirs
    p_value = _p_value(ours, theirs)
    return Comparison(
        difference=round(float(difference.mean()), 6) if len(difference) else None,
        p_value=p_value,
        significant=p_value is not None and p_value <= MAX_P,
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
        num_queries=len(difference),
    )


def _p_value(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    if len(ours) < 2:
        return None
    if np.array_equal(ours, theirs):
        return 1.0  # the statistic is 0 / 0
    return float(f"{paired_student_t_test(ours, theirs, MAX_P)[0]:.3g}")
