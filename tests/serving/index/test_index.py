"""Both indexes against scores worked out by hand and against brute force in NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.export.agreement import Reference, exact_scores, recall
from serving.index.exact import ExactIndex
from serving.index.found import Index
from serving.index.scann import ScannIndex
from serving.index.scann_build import ScannSettings
from tfrs_mmse.cli import CommandError

EVERY_ITEM = ScannSettings(num_leaves=0, leaves_to_search=0, num_reorder=20)
MAKERS: dict[str, Callable[[np.ndarray], Index]] = {
    "exact": ExactIndex,
    "exact in blocks": lambda embedding: ExactIndex(embedding, block=3),
}
# Inner products with [1, 0] are the first column.
ITEMS = np.array([[2, 0], [5, 1], [2, 1], [-1, 3], [4, 0], [5, 0]], np.float32)


@pytest.fixture(params=MAKERS)
def make_index(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Index]:
    return MAKERS[request.param]


def test_the_best_rows_come_first_and_ties_go_to_the_lower_row(
    make_index: Callable[[np.ndarray], Index],
) -> None:
    found = make_index(ITEMS).search(tf.constant([[1.0, 0.0], [0.0, 1.0]]), 5)
    assert found.row.numpy().tolist() == [[1, 5, 4, 0, 2], [3, 1, 2, 0, 4]]
    assert found.score.numpy().tolist() == [[5, 5, 4, 2, 2], [3, 1, 1, 0, 0]]


def test_a_search_for_more_than_there_is_finds_all(
    make_index: Callable[[np.ndarray], Index],
) -> None:
    found = make_index(ITEMS[:2]).search(tf.constant([[1.0, 0.0]]), 7)
    assert found.row.numpy().tolist() == [[1, 0]]
    assert found.score.numpy().tolist() == [[5, 2]]


def test_an_empty_batch_has_an_empty_answer(
    make_index: Callable[[np.ndarray], Index],
) -> None:
    found = make_index(ITEMS).search(tf.zeros([0, 2]), 3)
    assert found.row.shape == found.score.shape == (0, 3)


def test_any_block_size_gives_the_same_result() -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(-2, 3, size=(50, 3)).astype(np.float32)  # many ties
    query = tf.constant(rng.integers(-2, 3, size=(20, 3)), tf.float32)
    whole = ExactIndex(items).search(query, 12)
    for block in (1, 7, 12, 49, 50):
        found = ExactIndex(items, block=block).search(query, 12)
        np.testing.assert_array_equal(found.row, whole.row)
        np.testing.assert_array_equal(found.score, whole.score)


def _clustered(num_items: int, num_queries: int, *, spread: float = 0.4) -> Reference:
    """Items around centres, as trained embeddings lie, and queries among them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 24))
    points = centres[
        rng.integers(60, size=num_items + num_queries)
    ] + spread * rng.normal(size=(num_items + num_queries, 24))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return Reference(
        points[num_items:], points[:num_items], np.arange(num_items).astype(bytes)
    )


@pytest.mark.parametrize(
    ("leaves_to_search", "num_reorder", "minimum"),
    [(3, 100, 0.6), (15, 200, 0.95), (71, 2000, 0.999), (0, 200, 0.98)],
)
def test_scann_reaches_the_recall_of_its_settings(
    leaves_to_search: int, num_reorder: int, minimum: float
) -> None:
    reference = _clustered(5000, 100)
    settings = ScannSettings(
        num_leaves=71 if leaves_to_search else 0,
        leaves_to_search=leaves_to_search,
        num_reorder=num_reorder,
    )
    found = ScannIndex(reference.item, settings, k=20).search(
        tf.constant(reference.query), 20
    )
    rows = found.row.numpy()
    trained = np.take_along_axis(reference.query @ reference.item.T, rows, axis=1)
    # Reordering gives exact scores.
    np.testing.assert_allclose(found.score, trained, rtol=1e-5, atol=1e-6)
    assert recall(found.score.numpy(), exact_scores(reference, 20)) >= minimum


def test_scann_fetches_more_than_it_was_built_for() -> None:
    reference = _clustered(2000, 10)
    # Coarse codes: it matters how many candidates there are. 60 for 60 results find 0.69, 90 find 0.80.
    settings = ScannSettings(
        num_leaves=45, leaves_to_search=45, num_reorder=40, dimensions_per_block=8
    )
    score = (
        ScannIndex(reference.item, settings, k=10)
        .search(tf.constant(reference.query), tf.constant(60))
        .score.numpy()
    )
    assert score.shape == (10, 60)
    assert recall(score, exact_scores(reference, 60)) > 0.75


def test_scann_rows_that_were_not_found_are_marked() -> None:
    # One leaf of ten is searched, so fewer than all of the 400 items are found.
    reference = _clustered(400, 5)
    settings = ScannSettings(num_leaves=10, leaves_to_search=1, num_reorder=400)
    found = ScannIndex(reference.item, settings, k=400).search(
        tf.constant(reference.query), 400
    )
    row, missing = found.row.numpy(), found.score.numpy() == -np.inf
    assert missing.any()
    assert (row[missing] == -1).all()
    assert (row[~missing] >= 0).all()
    for ids, gone in zip(row, missing, strict=True):
        assert len(set(ids[~gone])) == (~gone).sum()
        assert not np.isnan(found.score).any()


def test_scann_has_an_empty_answer_to_an_empty_batch() -> None:
    found = ScannIndex(_clustered(40, 1).item, EVERY_ITEM, k=3).search(
        tf.zeros([0, 24]), 3
    )
    assert found.row.shape == found.score.shape == (0, 3)


def test_what_scann_says_when_it_fails_is_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = ScannSettings(
        num_leaves=0, leaves_to_search=0, num_reorder=20, dimensions_per_block=-1
    )
    with pytest.raises(CommandError, match="ScaNN cannot build an index of 40 items"):
        ScannIndex(_clustered(40, 1).item, broken, k=3)
    assert "Error" in capfd.readouterr().err


def test_the_embeddings_can_be_shared_and_are_saved_once() -> None:
    exact = ExactIndex(ITEMS)
    np.testing.assert_array_equal(exact.embedding, ITEMS)
    assert ExactIndex(exact.embedding).embedding is exact.embedding
    items = _clustered(40, 1).item
    scann = ScannIndex(items, EVERY_ITEM, k=3)
    np.testing.assert_array_equal(scann.embedding, items)
    assert [v.shape for v in scann.variables if v.dtype == tf.float32] == [(40, 24)]


def test_a_memory_map_is_searched_where_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", ITEMS)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="c")
    index = ExactIndex(mapped)
    query = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    found = index.search(query, 2)
    assert found.row.numpy().tolist() == [[1, 5], [3, 1]]
    places = [
        np.from_dlpack(index.embedding.read_value()).ctypes.data for _ in range(2)
    ]
    assert places == [mapped.ctypes.data] * 2


def test_two_scann_indexes_in_one_process_do_not_share_their_items(
    tmp_path: Path,
) -> None:
    # Under ScaNN's default resource name the second one would answer with the first one's items.
    class Searcher(tf.Module):
        def __init__(self, embedding: np.ndarray) -> None:
            super().__init__()
            self.index = ScannIndex(embedding, EVERY_ITEM, k=1)

        @tf.function(input_signature=[tf.TensorSpec([None, 2])])
        def search(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"row": self.index.search(query, 1).row}

        @tf.function(input_signature=[], autograph=False)
        def release(self) -> None:
            self.index.release()

    # Row n of twenty points as far up as n says, and the other way round.
    rising = np.stack([np.ones(20), np.arange(20)], axis=1).astype(np.float32)
    for name, items in (("up", rising), ("down", rising[::-1])):
        tf.saved_model.save(Searcher(items), str(tmp_path / name))
    up, down = (
        tf.saved_model.load(str(tmp_path / "up")),
        tf.saved_model.load(str(tmp_path / "down")),
    )
    query = tf.constant([[0.0, 1.0]])
    assert (up.search(query)["row"].numpy(), down.search(query)["row"].numpy()) == (
        [[19]],
        [[0]],
    )
    up.release()
    assert down.search(query)["row"].numpy() == [[0]]
    assert up.search(query)["row"].numpy() == [[19]]  # built anew
