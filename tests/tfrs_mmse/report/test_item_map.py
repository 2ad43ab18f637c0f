import numpy as np
import pytest

from tfrs_mmse.report import item_map


def test_same_neighbours_are_counted_among_the_nearest_others() -> None:
    vectors = np.array([[1, 0], [0.9, 0], [0, 1], [0, 0.9], [0.1, 0.8]], np.float32)
    # By inner product the nearest of 0..4 are 1, 0, 3, 2, 2.
    assert item_map.same_neighbours(vectors, np.array([7, 7, 8, 8, 7]), 1) == 4 / 5


def test_vectors_without_structure_have_neighbours_by_chance() -> None:
    rng = np.random.default_rng(0)
    vectors, ids = rng.normal(size=(1000, 8)), rng.integers(4, size=1000)
    share = item_map.same_neighbours(vectors.astype(np.float32), ids, 10)
    assert share == pytest.approx(1 / 4, abs=0.02)
