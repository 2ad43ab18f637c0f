"""Which systems are better than which, beyond what the choice of queries explains.

Pairs of systems are compared query by query with the two-sided paired Student's t-test of `ranx` (the default of
`ranx.compare`). Three questions are asked, and the p-values of each are corrected together after Holm, so that the
chance of calling any two equal systems different is at most 0.05 for each question, figure and data set:

- Which system is better? All pairs of systems, those aside that are `mmse` with another part.
- Is a part worth having? `mmse` against itself without the part, for every part.
- Is another part better? `mmse` against itself with the other, for every such exchange.

(`ranx.compare` itself corrects only with Tukey's test, which takes the systems' figures for independent samples: that
gives away that they answered the same queries.)
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from ranx.statistical_tests import paired_student_t_test

from tfrs_mmse.presets import WITH, WITHOUT

MAX_P = 0.05
REFERENCE = "mmse"

Pair = tuple[str, str]


def better_than(figures: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """For each system those with a lower mean that differ significantly, in the order of `figures`.

    Args:
        figures: By system: [Q] float64, NaN for the queries without the figure, which are the same for all systems.
    """
    known = {name: values[~np.isnan(values)] for name, values in figures.items()}
    different = set()
    for pairs in questions(list(figures)):
        p_values = holm([_p_value(known[a], known[b]) for a, b in pairs])
        different |= {
            frozenset(pair)
            for pair, p in zip(pairs, p_values, strict=True)
            if p < MAX_P
        }
    return {
        name: [
            other
            for other in known
            if {name, other} in different and known[name].mean() > known[other].mean()
        ]
        for name in known
    }


def questions(systems: Sequence[str]) -> list[list[Pair]]:
    """The pairs of systems to compare, in families whose p-values are corrected together."""
    whole = [name for name in systems if not name.startswith((WITHOUT, WITH))]
    changed = [
        [(REFERENCE, name) for name in systems if name.startswith(prefix)]
        for prefix in (WITHOUT, WITH)
        if REFERENCE in whole
    ]
    return [list(itertools.combinations(whole, 2)), *changed]


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
