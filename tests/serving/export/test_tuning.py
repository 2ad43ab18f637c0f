"""What is tried and timed, on a small catalogue with real ScaNN."""

import numpy as np
import pytest

from serving.export import tuning
from serving.export.agreement import Reference, exact_scores, recall
from serving.export.tuning import builds, candidates, tune
from serving.index.scann_build import ScannSettings
from tests.serving.conftest import scann_is_faster


@pytest.fixture(scope="module")
def reference() -> Reference:
    """2,000 items without clusters, which makes quantised search miss some, and 40 queries."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2040, 24)).astype(np.float32)
    return Reference(points[2000:], points[:2000], np.arange(2000).astype(bytes))


@pytest.mark.parametrize(
    ("num_items", "leaves"),
    [
        (15, []),
        (16, [0, 0]),
        (49_999, [0, 0]),
        (50_176, [0, 0, 224, 224]),
        (1_000_000, [1000, 1000]),
    ],
)
def test_what_is_built_goes_by_the_size_of_the_catalogue(
    num_items: int, leaves: list[int]
) -> None:
    built = builds(num_items, k=100)
    assert [s.num_leaves for s in built] == leaves
    assert [s.dimensions_per_block for s in built] == [2, 4] * (len(leaves) // 2)


def test_little_work_is_tried_before_much() -> None:
    tree = ScannSettings(num_leaves=50, leaves_to_search=1, num_reorder=10)
    tried = list(candidates(tree, 35, k=10))
    # A hundredth and a fiftieth of 50 leaves are both one leaf.
    assert [group[0].leaves_to_search for group in tried] == [1, 3, 5, 10, 25, 50]
    assert [s.num_reorder for s in tried[0]] == [10, 15, 20, 30, 35]
    flat = ScannSettings(num_leaves=0, leaves_to_search=0, num_reorder=10)
    (group,) = candidates(flat, 1000, k=10)
    assert [s.num_reorder for s in group] == [10, 15, 20, 30, 40, 80]


def test_the_chosen_index_has_the_recall_that_was_measured(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "time_trials", scann_is_faster)
    index, choice, curve = tune(reference, k=20, target_recall=0.9)
    chosen = choice.measured
    assert chosen.settings is not None
    found = index.search(reference.query, 20).score.numpy()
    exact = exact_scores(reference, 20)
    assert recall(found, exact) == pytest.approx(chosen.recall)
    assert chosen.recall >= 0.9
    # One candidate for each result is not enough, and it was tried.
    assert chosen.settings.num_reorder > 20
    least = [m.recall for m in curve if m.settings and m.settings.num_reorder == 20]
    assert max(least) < 0.9


def test_a_search_is_timed_for_queries_alone_and_in_batches(
    reference: Reference,
) -> None:
    sizes, holding, most = [], set(), 0

    class Index:
        """Holds the vectors from its first search on."""

        def search(self, query: np.ndarray) -> np.ndarray:
            nonlocal most
            sizes.append(len(query))
            holding.add(self)
            most = max(most, len(holding))
            return query

        def release(self) -> None:
            holding.discard(self)

    indexes = [Index(), Index()]
    tried = [
        tuning.Tried(index, [tuning.Trial(None, 1.0, index.search)] * 2)  # type: ignore[arg-type]
        for index in indexes
    ]
    times = tuning.time_trials(tried, reference.query[:5])
    assert np.shape(times) == (4, 2)
    assert np.min(times) > 0
    assert set(sizes) == {1, 32}
    assert (most, holding) == (1, set())
