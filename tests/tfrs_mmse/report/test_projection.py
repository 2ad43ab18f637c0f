import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse.report import projection


def clusters(num: int, size: int, dims: int = 20) -> np.ndarray:
    """`num` clouds of `size` unit vectors, one after the other."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(num, dims)), size, axis=0)
    vectors = centres + rng.normal(scale=0.3, size=(num * size, dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def neighbours(points: np.ndarray, k: int) -> np.ndarray:
    distance = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1)[:, :k]


def test_affinities_are_symmetric_and_sum_to_one() -> None:
    affinity = projection.joint_affinities(clusters(3, 20), 10)
    assert_allclose(affinity, affinity.T, rtol=1e-6)
    assert affinity.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diag(affinity) == 0).all()


def test_each_point_looks_at_as_many_neighbours_as_the_perplexity_says() -> None:
    # Corners of a simplex have equal distances: every p_j|i is 1 / (n - 1), whatever the width.
    affinity = projection.joint_affinities(np.eye(5, dtype=np.float32), 3)
    assert_allclose(affinity, (1 - np.eye(5)) / 4 / 5, atol=1e-6)
    # Ten points of which each has one twin: with a perplexity just above 1 it looks at the twin alone.
    twins = np.repeat(np.eye(5, dtype=np.float32), 2, axis=0)
    affinity = projection.joint_affinities(twins, 1.001)
    assert_allclose(affinity, np.kron(np.eye(5), [[0, 0.1], [0.1, 0]]), atol=1e-4)


def test_the_entropy_of_the_neighbours_is_that_of_the_perplexity() -> None:
    # Of two equal points and one far away, the p of the far one are 1/2 each: perplexity 2.
    points = np.array([[0, 0], [0, 0], [9, 0]], np.float32)
    affinity = projection.joint_affinities(points, 1.5)
    assert affinity[2, 0] == pytest.approx(affinity[2, 1])


def test_neighbours_stay_neighbours() -> None:
    vectors = clusters(8, 40)
    place = projection.neighbour_map(vectors)
    cluster = np.repeat(np.arange(8), 40)
    assert (cluster[neighbours(place, 10)] == cluster[:, None]).mean() > 0.99
    # A random map would keep 10 of 319, 3%.
    before, after = neighbours(vectors, 10), neighbours(place, 10)
    kept = [len(set(a) & set(b)) / 10 for a, b in zip(before, after, strict=True)]
    assert np.mean(kept) > 0.4


def test_the_map_is_the_same_every_time() -> None:
    vectors = clusters(3, 10)
    one, other = (projection.neighbour_map(vectors) for _ in range(2))
    assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5])
def test_a_few_items_have_a_place(num: int) -> None:
    place = projection.neighbour_map(clusters(num, 1))
    assert place.shape == (num, 2) and np.isfinite(place).all()


def test_items_that_are_all_the_same_have_a_place() -> None:
    place = projection.neighbour_map(np.ones((20, 3), np.float32))
    assert np.isfinite(place).all()


def test_vectors_of_one_dimension_have_a_place() -> None:
    place = projection.neighbour_map(np.arange(3, dtype=np.float32)[:, None])
    assert_array_equal(place[:, 1], [0, 0, 0])
