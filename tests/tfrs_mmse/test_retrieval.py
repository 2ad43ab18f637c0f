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


def test_agrees_with_a_stable_sort_of_all_products() -> None:
    query, item = integers(37, 6), integers(501, 6)
    products = query @ item.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :50]
    result = retrieval.top_k(query, item, 50)
    assert_array_equal(result.index, expected)
    assert_array_equal(result.score, np.take_along_axis(products, expected, axis=1))


@pytest.mark.parametrize(
    ("query_block", "item_block"), [(1, 1), (7, 13), (37, 40), (36, 500), (1000, 1000)]
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


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"\[Q, D\] and \[N, D\], got shapes \(3, 4\) and \(7, 5\)"
    ):
        retrieval.top_k(integers(3, 4), integers(7, 5), 3)
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        retrieval.top_k(integers(3, 4), integers(7, 4), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused(value: float) -> None:
    item = integers(7, 4)
    item[3, 2] = value
    with pytest.raises(ValueError, match="item_embedding must be finite"):
        retrieval.top_k(integers(3, 4), item, 3)


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
