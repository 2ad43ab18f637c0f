"""Whether served answers are the trained model's: pure functions on scores."""

from typing import NamedTuple

import numpy as np

from tfrs_mmse import retrieval

TOLERANCE = 1e-5  # relative to the largest score: float32 sums in another order differ by about 1e-7 of it


class Queries(NamedTuple):
    """Query strings to measure with: `held_out` checks what was tuned on `tuning`. `source` says what they are."""

    held_out: list[str]
    tuning: list[str]
    source: str


class Reference(NamedTuple):
    """The training model's own exact search.

    Attributes:
        query: [Q, D] float32 query embeddings.
        item: [N, D] float32 item embeddings.
        item_id: [N] bytes.
    """

    query: np.ndarray
    item: np.ndarray
    item_id: np.ndarray


def exact_scores(reference: Reference, k: int) -> np.ndarray:
    """[Q, min(k, N)] float32: the largest inner products of each query, descending."""
    return retrieval.top_k(reference.query, reference.item, k).score


def recall(score: np.ndarray, exact: np.ndarray) -> float:
    """How much of the exact result an index finds: mean over queries of |found in the exact top k| / k.

    An item that ties with the k-th exact score counts as found.

    Args:
        score: [Q, n] scores of the found items, `-inf` where there is none; n >= k.
        exact: [Q, k] from `exact_scores`; of nothing (k = 0) everything is found.
    """
    if not exact.shape[1]:
        return 1.0
    hits = (score >= exact[:, -1:] - tolerance(exact)).sum(axis=1)
    return float(np.minimum(hits / exact.shape[1], 1.0).mean())


def tolerance(exact: np.ndarray) -> float:
    """The difference of two scores that counts as none."""
    return TOLERANCE * float(np.abs(exact).max(initial=1.0))


def disagreement(
    item_id: np.ndarray,
    score: np.ndarray,
    reference: Reference,
    *,
    exact: np.ndarray | None,
) -> str:
    """What is wrong with served answers, or "".

    Args:
        item_id: [Q, k] bytes, "" where fewer than k items were found.
        score: [Q, k] float32, -inf where fewer were found.
        reference: The training model's embeddings.
        exact: [Q, min(k, N)] from `exact_scores`, if the served search is to be exact; None if approximate.

    Returns:
        One sentence, or "": each row descends, holds no item twice and pads only at its end, each item's score is the
        training model's, and (exact) the scores are the best there are.
    """
    found = score > -np.inf
    if not np.array_equal(found, item_id != b""):
        return "an item without a score, or a score without an item, was served"
    if (score[:, 1:] > score[:, :-1]).any():
        return "the served scores do not descend"
    served = set(item_id.ravel().tolist())
    row_of = {name: n for n, name in enumerate(reference.item_id) if name in served}
    allowed = tolerance(score[found]) if found.any() else TOLERANCE
    for place, (ids, scores) in enumerate(zip(item_id.tolist(), score, strict=True)):
        ids = [name for name in ids if name]
        if len(set(ids)) < len(ids):
            return f"query {place} got an item twice"
        if unknown := [name for name in ids if name not in row_of]:
            return f"query {place} got {unknown[0]!r}, which is not in the catalogue"
        trained = (
            reference.item[[row_of[name] for name in ids]] @ reference.query[place]
        )
        difference = np.abs(trained - scores[: len(ids)]).max(initial=0.0)
        if not difference <= allowed:
            return f"query {place} got scores that differ from the training model's by {difference:.2g}"
    if exact is None:
        return ""
    if found.sum(axis=1).min() < exact.shape[1]:
        return (
            f"{found.sum(axis=1).min()} items were served where {exact.shape[1]} exist"
        )
    difference = np.abs(score[:, : exact.shape[1]] - exact).max(initial=0.0)
    if not difference <= allowed:
        return f"the best scores served differ from the exact ones by {difference:.2g}"
    return ""
