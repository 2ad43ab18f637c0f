import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfrs_mmse import retrieval


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def integers(*shape: int) -> np.ndarray:
    """Embeddings of small integers: their products are exact in float32, and many of them are equal."""
    return np.random.default_rng(0).integers(-2, 3, size=shape).astype(np.float32)


def test_gives_the_largest_inner_products_best_first() -> None:
    item = floats([[1, 0], [0, 1], [2, 2], [-1, 3]])
    result = retrieval.top_k(floats([[1, 0], [0, 2]]), item, 3)
    # Products are (1, 0, 2, -1) and (0, 2, 4, 6).
    assert_array_equal(result.index, [[2, 0, 1], [3, 2, 1]])
    assert_array_equal(result.score, [[2, 1, 0], [6, 4, 2]])
    assert result.index.dtype == np.int32 and result.score.dtype == np.float32


def test_ties_go_to_the_lower_row_also_at_the_cut() -> None:
    result = retrieval.top_k(floats([[1]]), floats([[0], [5], [5], [7], [5], [5]]), 3)
    assert_array_equal(result.index, [[3, 1, 2]])


def test_zero_and_minus_zero_tie() -> None:
    # Products are 0, -0, 0, -0.
    result = retrieval.top_k(floats([[1]]), floats([[0.0], [-0.0], [0.0], [-0.0]]), 4)
    assert_array_equal(result.index, [[0, 1, 2, 3]])


def test_k_larger_than_the_corpus_gives_the_whole_corpus() -> None:
    query, item = integers(5, 4), integers(7, 4)
    result = retrieval.top_k(query, item, 100)
    assert result.index.shape == (5, 7)
    assert_array_equal(np.sort(result.index, axis=1), np.tile(np.arange(7), (5, 1)))


@pytest.mark.parametrize("num_queries", [1, 37, 256, 1300])
def test_agrees_with_a_stable_sort_of_all_products(num_queries: int) -> None:
    query, item = integers(num_queries, 6), integers(501, 6)
    products = query @ item.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :50]
    result = retrieval.top_k(query, item, 50)
    assert_array_equal(result.index, expected)
    assert_array_equal(result.score, np.take_along_axis(products, expected, axis=1))


@pytest.mark.parametrize("k", [1, 3, 40, 200, 499])
@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(np.full(500, 2), id="all equal"),
        pytest.param(np.arange(500), id="ascending: each block beats the former"),
        pytest.param(np.arange(500)[::-1], id="descending"),
        pytest.param(np.arange(500) // 50, id="ascending, with ties"),
        pytest.param(np.arange(500) - 1000, id="all negative"),
        pytest.param(np.arange(500) % 7 - 3.0, id="duplicates on either side of zero"),
        pytest.param(np.zeros(500) * np.tile([1, -1], 250), id="zero and minus zero"),
    ],
)
def test_any_order_of_the_items_gives_the_stable_sort(
    scores: np.ndarray, k: int
) -> None:
    # Queries 1 and 2 put the items in the same order, query -1 in the opposite one.
    result = retrieval.top_k(
        floats([[1], [2], [-1]]), floats(scores)[:, None], k, item_block=32
    )
    order = np.argsort(-scores, kind="stable")[:k]
    opposite = np.argsort(scores, kind="stable")[:k]
    assert_array_equal(result.index, [order, order, opposite])
    assert_array_equal(
        result.score, [scores[order], 2 * scores[order], -scores[opposite]]
    )


@pytest.mark.parametrize("ascending", [True, False])
def test_takes_the_memory_it_says_whatever_the_order(ascending: bool) -> None:
    item = np.sort(np.random.default_rng(0).random((40_000, 1), np.float32), axis=0)
    query = np.ones((1000, 1), np.float32)
    tracemalloc.start()
    try:
        result = retrieval.top_k(
            query,
            item if ascending else item[::-1],
            100,
            query_block=1000,
            item_block=256,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    peak -= result.index.nbytes + result.score.nbytes
    # 13 MB; the keys of all scores would be 1000 * 40,000 * 8 bytes = 320 MB.
    assert peak <= (20 * 1000 + 64 * 256) * (256 + 100)
    # The best so far have to be somewhere, or this test would not see the arrays at all.
    assert peak >= 8 * 1000 * 100


@pytest.mark.parametrize(
    ("query_block", "item_block"), [(5, 1), (7, 13), (37, 40), (36, 500), (1000, 1000)]
)
def test_the_result_does_not_depend_on_the_blocks(
    query_block: int, item_block: int
) -> None:
    query, item = integers(37, 6), integers(501, 6)
    whole = retrieval.top_k(query, item, 50)
    blocked = retrieval.top_k(
        query, item, 50, query_block=query_block, item_block=item_block
    )
    assert_array_equal(blocked.index, whole.index)
    assert_array_equal(blocked.score, whole.score)


def test_permuted_items_give_the_same_items() -> None:
    rng = np.random.default_rng(1)
    query, item = (
        rng.normal(size=(9, 8)).astype(np.float32),
        rng.normal(size=(300, 8)).astype(np.float32),
    )
    order = rng.permutation(300)
    result = retrieval.top_k(query, item, 20, item_block=64)
    permuted = retrieval.top_k(query, item[order], 20, item_block=64)
    assert_array_equal(order[permuted.index], result.index)


def test_no_queries_give_no_rows() -> None:
    assert retrieval.top_k(
        np.zeros((0, 4), np.float32), integers(7, 4), 3
    ).index.shape == (0, 3)


def test_no_items_give_no_columns() -> None:
    assert retrieval.top_k(integers(5, 4), integers(0, 4), 3).index.shape == (5, 0)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"\[Q, D\] and \[N, D\], got shapes \(3, 4\) and \(7, 5\)"
    ):
        retrieval.top_k(integers(3, 4), integers(7, 5), 3)
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        retrieval.top_k(integers(3, 4), integers(7, 4), 0)
    with pytest.raises(ValueError, match="query_block must be positive, got -1"):
        retrieval.top_k(integers(3, 4), integers(7, 4), 3, query_block=-1)
    with pytest.raises(ValueError, match="item_block must be positive, got 0"):
        retrieval.top_k(integers(3, 4), integers(7, 4), 3, item_block=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused(value: float) -> None:
    item = integers(7, 4)
    item[3, 2] = value
    with pytest.raises(ValueError, match="item_embedding must be finite"):
        retrieval.top_k(integers(3, 4), item, 3)


def test_embeddings_whose_products_may_overflow_are_refused() -> None:
    # 2 * 1e19 * 3e19 = 6e38; the largest float32 is 3.4e38.
    with pytest.raises(ValueError, match=r"could be as large as 6e\+38: scale"):
        retrieval.top_k(floats([[1e19, 0]]), floats([[-3e19, 1]]), 1)


def test_scores_of_minus_infinity_are_no_results() -> None:
    no = -np.inf
    result = retrieval.best_of(floats([[no, 1, no, 2], [no, no, no, no]]), 3)
    assert_array_equal(result.index, [[3, 1, -1], [-1, -1, -1]])
    assert_array_equal(result.score, [[2, 1, no], [no, no, no]])


def test_ordinals_number_floats_in_their_order_without_gaps() -> None:
    tiny = np.float32(2.0**-149)  # the smallest positive float32
    values = floats(
        [
            -np.inf,
            -1,
            -tiny,
            -0.0,
            0.0,
            tiny,
            np.nextafter(np.float32(1), np.float32(0)),
            1,
            np.inf,
        ]
    )
    numbers = retrieval.ordinals(values)
    assert (np.diff(numbers) >= 0).all()
    assert_array_equal(numbers[2:6], [-1, 0, 0, 1])
    assert numbers[7] - numbers[6] == 1
    assert_array_equal(retrieval.from_ordinals(numbers), values)
