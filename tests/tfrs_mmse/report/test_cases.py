import numpy as np

from tfrs_mmse.report import cases

NAN = np.nan


def test_the_ends_of_the_ranking_best_first_and_worst_first() -> None:
    gain = np.array([0.0, 0.5, -0.3, 0.9, -1.0])
    assert cases.best_and_worst(gain, np.zeros(5), 2) == ([3, 1], [4, 2])


def test_the_second_figure_decides_between_equals() -> None:
    gain = np.array([1.0, 1, 1, 0, 0, 0])
    tie_break = np.array([0.1, 0.9, NAN, 0.2, NAN, -0.4])
    assert cases.best_and_worst(gain, tie_break, 3) == ([1, 0, 2], [5, 4, 3])


def test_no_query_is_both_best_and_worst() -> None:
    assert cases.best_and_worst(np.array([0.5, 1, 0]), np.zeros(3)) == ([1, 0], [2])
    assert cases.best_and_worst(np.array([0.5]), np.zeros(1)) == ([0], [])
