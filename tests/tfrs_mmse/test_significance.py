import numpy as np
import pytest

from tfrs_mmse import significance
from tfrs_mmse.significance import compare_figure

NAN = np.nan


def test_the_test_is_a_paired_one() -> None:
    # Differences 1, 1, 2, 0: mean 1, standard deviation sqrt(2 / 3), so t = 1 / (sqrt(2 / 3) / 2) = sqrt(6) with 3
    # degrees of freedom, p = 0.0917.
    found = compare_figure(np.array([5.0, 1, 9, 3]), np.array([4.0, 0, 7, 3]))
    assert found.difference == 1
    assert found.p_value == pytest.approx(0.0917, abs=5e-5)
    assert not found.significant
    assert (found.better, found.worse, found.num_queries) == (3, 0, 4)


def test_queries_without_the_figure_do_not_count() -> None:
    found = compare_figure(np.array([1.0, NAN, 0, 1]), np.array([0.0, NAN, 1, 1]))
    assert (found.difference, found.better, found.worse, found.num_queries) == (
        0,
        1,
        1,
        3,
    )


def test_a_difference_that_is_there_in_many_queries_is_significant() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random(400)
    better = compare_figure(theirs + rng.normal(0.05, 0.2, 400), theirs)
    worse = compare_figure(theirs, theirs + rng.normal(0.05, 0.2, 400))
    assert better.significant and worse.significant
    assert better.difference and better.difference > 0
    assert worse.difference and worse.difference < 0


def test_equal_systems_are_significantly_different_once_in_a_hundred_times() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.random((2000, 2, 50))
    found = sum(compare_figure(ours, theirs).significant for ours, theirs in pairs)
    assert 6 <= found <= 36  # 20 expected, standard deviation 4.4


def test_the_same_figures_are_no_difference() -> None:
    same = np.array([0.0, 0.5, 1])
    assert compare_figure(same, same).p_value == 1


def test_one_query_or_none_is_not_tested() -> None:
    assert compare_figure(np.array([1.0]), np.array([0.0])).p_value is None
    none = compare_figure(np.array([NAN]), np.array([NAN]))
    assert none == (None, None, False, 0, 0, 0)


def test_compares_the_figures_that_both_have() -> None:
    ours = {"clicked": {"recall@10": np.ones(3)}, "all": {"ndcg@10": np.ones(3)}}
    theirs = {"clicked": {"recall@10": np.zeros(3), "recall@5": np.zeros(3)}}
    found = significance.compare(ours, theirs)
    assert list(found) == ["clicked"] and list(found["clicked"]) == ["recall@10"]
    assert found["clicked"]["recall@10"].difference == 1
