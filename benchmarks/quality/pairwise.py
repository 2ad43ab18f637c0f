"""Which systems are better than which, beyond what the choice of queries explains.

Every pair of systems is compared query by query with the two-sided paired Student's t-test of `ranx` (the default of
`ranx.compare`), and the p-values of all pairs are corrected together after Holm, so that the chance of calling any two
equal systems different is at most 0.05 for each figure and data set. (`ranx.compare` itself corrects only with Tukey's
test, which takes the systems' figures for independent samples: that gives away that they answered the same queries.)
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from ranx.statistical_tests import paired_student_t_test

MAX_P = 0.05


def better_than(figures: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """For each system those with a lower mean that differ significantly, in the order of `figures`.

    Args:
        figures: By system: [Q] float64, NaN for the queries without the figure, which are the same for all systems.
    """
    known = {name: values[~np.isnan(values)] for name, values in figures.items()}
    pairs = list(itertools.combinations(known, 2))
    p_values = holm([_p_value(known[a], known[b]) for a, b in pairs])
    different = {
        frozenset(pair) for pair, p in zip(pairs, p_values, strict=True) if p < MAX_P
    }
    return {
        name: [
            other
            for other in known
            if {name, other} in different and known[name].mean() > known[other].mean()
        ]
        for name in known
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number (Holm, 1979).

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), at most 1.
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(m, 0, -1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def _p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    if len(ours) < 2 or np.array_equal(ours, theirs):  # the statistic is 0 / 0
        return 1.0
    return float(paired_student_t_test(ours, theirs, MAX_P)[0])
