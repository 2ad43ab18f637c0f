"""Train and test by query and by time, and the positives of each query."""

from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import read_counters
from beam.config import PreprocessConfig
from beam.requests import Request, Slot
from beam.splits import (
    FoldQueries,
    KnowPositives,
    SplitRequests,
    is_test_query,
    most_frequent,
)


def request(
    request_id: str,
    query: str,
    levels: dict[str, int],
    *,
    timestamp: float = 0.0,
    split: str = "",
) -> Request:
    slots = tuple(Slot(item_id, level, -1, 1) for item_id, level in levels.items())
    return Request(request_id, query, timestamp, slots, split)


@pytest.mark.parametrize(
    ("query", "share"),
    # First 8 hexadecimal digits of `printf QUERY | sha256sum`, over 2^32.
    [
        ("shoe", 0xEFDA1C92 / 2**32),
        ("hat", 0x18E1DD39 / 2**32),
        ("acao", 0x15E8900C / 2**32),
    ],
)
def test_a_query_is_on_the_side_that_its_hash_says(query: str, share: float) -> None:
    assert is_test_query(query, share + 1e-9)
    assert not is_test_query(query, share)


def test_queries_that_fold_alike_are_one() -> None:
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        raw = [
            request(str(n), query, {"a": 2})
            for n, query in enumerate([" Ação\u00a0 JÁ", "acao ja", "ＡＣＡＯ\tja "])
        ]
        folded = (
            pipeline | beam.Create(raw) | FoldQueries() | beam.Map(lambda r: r.query)
        )
        assert_that(folded, equal_to(["acao ja"] * 3))


@pytest.mark.parametrize(
    ("config", "splits"),
    [
        # sha256: shoe 0.937, hat 0.097, blue 0.087
        (
            PreprocessConfig(split_by="query", test_fraction=0.09),
            ["train", "train", "test"],
        ),
        (
            PreprocessConfig(split_by="query", test_fraction=0.5),
            ["train", "test", "test"],
        ),
        # 100 to 200: a fifth of the period begins at 180
        (
            PreprocessConfig(split_by="time", test_fraction=0.2),
            ["train", "test", "test"],
        ),
        (
            PreprocessConfig(split_by="time", test_fraction=0.1),
            ["train", "train", "test"],
        ),
    ],
)
def test_requests_are_split_by_query_or_by_time(
    config: PreprocessConfig, splits: list[str]
) -> None:
    moments = [("shoe", 100.0), ("hat", 180.0), ("blue", 200.0)]
    requests = [
        request(query, query, {"a": 2}, timestamp=timestamp)
        for query, timestamp in moments
    ]
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        split = (
            pipeline
            | beam.Create(requests)
            | SplitRequests(config)
            | beam.Map(lambda r: (r.query, r.split))
        )
        assert_that(
            split, equal_to(list(zip(["shoe", "hat", "blue"], splits, strict=True)))
        )


def test_no_request_is_no_failure() -> None:
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        none = pipeline | beam.Create([]) | SplitRequests(PreprocessConfig())
        assert_that(none, equal_to([]))


def test_of_too_many_positives_the_most_frequent_stay_and_ties_go_to_the_smaller_id() -> (
    None
):
    assert most_frequent(Counter({"d": 1, "b": 2, "c": 1, "a": 1}), 3) == (
        "a",
        "b",
        "c",
    )


def test_a_train_request_loses_unclicked_items_that_its_query_clicked_elsewhere() -> (
    None
):
    requests = [
        request("r1", "shoe", {"a": 3, "b": 1, "c": 1}, split="train"),
        request("r2", "shoe", {"b": 2, "a": 1}, split="train"),
        request("r3", "shoe", {"d": 2, "b": 1}, split="test"),
        request("r4", "hat", {"c": 2, "d": 1}, split="train"),
    ]
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    known = (
        pipeline
        | beam.Create(requests, reshuffle=False)
        | KnowPositives(max_positives=1)
    )
    seen = known | beam.Map(
        lambda r: (r.request_id, [slot.item_id for slot in r.slots], r.positives)
    )
    # `b` is taken from r1 and `a` from r2, though only one positive is kept in the records; r3 stays as it was, and
    # what it clicked, a test click, is nobody's positive.
    expected = [
        ("r1", ["a", "c"], ("a",)),
        ("r2", ["b"], ("a",)),
        ("r3", ["d", "b"], ("a",)),
        ("r4", ["c", "d"], ("c",)),
    ]
    assert_that(seen, equal_to(expected))
    counters = read_counters(pipeline.run(), ["events", "train", "test"])
    assert counters == {
        "events": {"dropped_unclicked_but_positive": 2},
        "train": {"queries": 2},
        "test": {"queries": 1},
    }
