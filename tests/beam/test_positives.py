"""What the train split knows about each query, however its requests are spread over buckets."""

import polars as pl
import pytest

from beam.positives import answer, ask, is_contested
from beam.splits import SPLIT_SLOTS
from tests.beam.tables import table

Known = dict[str, tuple[list[str], list[str]]]


def request(
    request_id: str, query: str, levels: dict[str, int], *, is_train: bool = True
) -> pl.DataFrame:
    rows = [
        (request_id, item_id, level, query, 0.0, -1, 1, is_train)
        for item_id, level in levels.items()
    ]
    return table(SPLIT_SLOTS, *rows)


REQUESTS = [
    request("r1", "shoe", {"a": 3, "b": 1, "c": 1}),
    request("r2", "shoe", {"b": 2, "a": 1}),
    request("r3", "shoe", {"d": 2, "b": 1}, is_train=False),
    request("r4", "hat", {"c": 2, "d": 1}),
]


def know(buckets: list[list[pl.DataFrame]], max_positives: int) -> Known:
    """For each request the items that it keeps, and the positives of its query."""
    tables = [pl.concat(requests) for requests in buckets]
    asked = [ask(slots, number) for number, slots in enumerate(tables)]
    queries, pairs = (pl.concat(parts) for parts in zip(*asked, strict=True))
    positives, contested = answer(queries, pairs, max_positives=max_positives)
    known: Known = {}
    for number, slots in enumerate(tables):
        mine = pl.col("asker") == number
        kept = slots.filter(~is_contested(slots, contested.filter(mine).drop("asker")))
        of_query = dict(positives.filter(mine).select("query", "positives").rows())
        for (request_id,), rows in kept.partition_by(
            "request_id", as_dict=True
        ).items():
            known[str(request_id)] = (
                rows["item_id"].to_list(),
                of_query[rows["query"][0]],
            )
    return known


@pytest.mark.parametrize(
    "buckets",
    [
        [REQUESTS],
        [[r] for r in REQUESTS],
        [REQUESTS[:1], REQUESTS[1:]],
        [REQUESTS[::2], REQUESTS[1::2]],
    ],
)
def test_a_train_request_loses_unclicked_items_that_its_query_clicked_elsewhere(
    buckets: list[list[pl.DataFrame]],
) -> None:
    # `b` is taken from r1 and `a` from r2, though only one positive is kept in the records; r3 stays as it was, and
    # what it clicked, a test click, is nobody's positive.
    assert know(buckets, max_positives=1) == {
        "r1": (["a", "c"], ["a"]),
        "r2": (["b"], ["a"]),
        "r3": (["d", "b"], ["a"]),
        "r4": (["c", "d"], ["c"]),
    }


def test_of_too_many_positives_the_most_frequent_stay_and_ties_go_to_the_smaller_id() -> (
    None
):
    requests = [
        request("r1", "q", {"d": 2, "b": 2, "c": 2}),
        request("r2", "q", {"b": 3, "a": 2}),
    ]
    assert know([requests], max_positives=3)["r1"][1] == ["a", "b", "c"]


def test_a_query_of_the_test_split_alone_has_no_positives() -> None:
    assert know([[request("r", "q", {"a": 2, "b": 1}, is_train=False)]], 9) == {
        "r": (["a", "b"], [])
    }


def test_queries_are_counted_by_split() -> None:
    queries, _ = ask(pl.concat(REQUESTS), 7)
    assert sorted(queries.rows()) == [(7, "hat", 1, 0), (7, "shoe", 2, 1)]
