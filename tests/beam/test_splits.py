"""Train and test by query and by time."""

import pytest

from beam.config import PreprocessConfig
from beam.requests import SLOTS
from beam.splits import FindPeriod, Period, fold_queries, is_test_query, split
from tests.beam.tables import table

MOMENTS = [("shoe", 100.0), ("hat", 180.0), ("blue", 200.0)]
REQUESTS = table(
    SLOTS, *((query, "a", 2, query, moment, -1, 1) for query, moment in MOMENTS)
)


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
    raw = [" Ação\u00a0 JÁ", "acao ja", "ＡＣＡＯ\tja "]
    slots = table(
        SLOTS, *((str(n), "a", 2, query, 0.0, -1, 1) for n, query in enumerate(raw))
    )
    assert fold_queries(slots)["query"].to_list() == ["acao ja"] * 3
    assert fold_queries(slots[:0]).height == 0


@pytest.mark.parametrize(
    ("config", "in_train"),
    [
        # sha256: shoe 0.937, hat 0.097, blue 0.087
        (PreprocessConfig(split_by="query", test_fraction=0.09), [True, True, False]),
        (PreprocessConfig(split_by="query", test_fraction=0.5), [True, False, False]),
        # 100 to 200: a fifth of the period begins at 180
        (PreprocessConfig(split_by="time", test_fraction=0.2), [True, False, False]),
        (PreprocessConfig(split_by="time", test_fraction=0.1), [True, True, False]),
    ],
)
def test_requests_are_split_by_query_or_by_time(
    config: PreprocessConfig, in_train: list[bool]
) -> None:
    slots = split(REQUESTS, config, Period(100.0, 200.0))
    by_query = dict(slots.select("query", "is_train").rows())
    assert [by_query[query] for query, _ in MOMENTS] == in_train


def test_the_period_holds_all_periods() -> None:
    find = FindPeriod()
    merged = find.merge_accumulators(
        [
            find.add_input(find.create_accumulator(), pair)
            for pair in ((5.0, 9.0), (3.0, 4.0))
        ]
    )
    assert find.extract_output(merged) == Period(3.0, 9.0)


def test_no_request_is_no_failure() -> None:
    for by in ("time", "query"):
        none = split(
            REQUESTS[:0],
            PreprocessConfig(split_by=by),
            Period(float("inf"), float("-inf")),
        )
        assert none.columns == [*SLOTS, "is_train"]
