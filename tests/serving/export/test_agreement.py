"""The checks of an export, on scores that can be worked out in the head."""

import numpy as np
import pytest

from serving.export.agreement import Reference, disagreement, exact_scores, recall

# The query is [1], so an item's score is its only number.
REFERENCE = Reference(
    query=np.ones((1, 1), np.float32),
    item=np.array([[3], [1], [4], [2]], np.float32),
    item_id=np.array([b"three", b"one", b"four", b"two"], dtype=object),
)
IDS, SCORES = [b"four", b"three", b"two"], [4.0, 3.0, 2.0]


def _judge(ids: list[bytes], scores: list[float], *, exact: bool = True) -> str:
    best = exact_scores(REFERENCE, 3) if exact else None
    return disagreement(
        np.array([ids]), np.array([scores], np.float32), REFERENCE, exact=best
    )


def test_exact_scores_descend_and_stop_at_the_catalogue() -> None:
    assert exact_scores(REFERENCE, 3).tolist() == [[4, 3, 2]]
    assert exact_scores(REFERENCE, 9).tolist() == [[4, 3, 2, 1]]


def test_recall_counts_what_reaches_the_last_exact_score() -> None:
    exact = np.array([[4, 3, 2, 2], [9, 8, 7, 6]], np.float32)
    # All of the first, with a tie; two of four of the second, and one place empty.
    score = np.array([[4, 3, 2, 2], [9, 7, 5, -np.inf]], np.float32)
    assert recall(score, exact) == (1 + 2 / 4) / 2


def test_the_right_answer_agrees() -> None:
    assert _judge(IDS, SCORES) == ""
    assert _judge([b"four", b"two", b""], [4, 2, -np.inf], exact=False) == ""


@pytest.mark.parametrize(
    ("ids", "scores", "complaint"),
    [
        ([b"four", b"three", b""], SCORES, "a score without an item"),
        ([b"three", b"four", b"two"], [3, 4, 2], "do not descend"),
        ([b"four", b"four", b"two"], [4, 4, 2], "an item twice"),
        ([b"four", b"five", b"two"], SCORES, "b'five', which is not in the catalogue"),
        (IDS, [4, 3.5, 2], "differ from the training model's by 0.5"),
        (
            [b"four", b"three", b""],
            [4, 3, -np.inf],
            "2 items were served where 3 exist",
        ),
        ([b"four", b"three", b"one"], [4, 3, 1], "differ from the exact ones by 1"),
        (IDS, [4, 3, np.nan], "a score without an item|an item without a score"),
    ],
)
def test_wrong_answers_are_named(
    ids: list[bytes], scores: list[float], complaint: str
) -> None:
    import re

    assert re.search(complaint, _judge(ids, scores))


def test_where_nothing_is_to_be_found_nothing_is_wrong() -> None:
    # A filter that no item passes.
    nobody = REFERENCE._replace(item=REFERENCE.item[:0], item_id=REFERENCE.item_id[:0])
    exact = exact_scores(nobody, 2)
    nothing = np.full((1, 2), -np.inf, np.float32)
    assert exact.shape == (1, 0)
    assert disagreement(np.array([[b"", b""]]), nothing, nobody, exact=exact) == ""
    assert recall(nothing, exact) == 1.0
