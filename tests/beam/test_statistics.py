"""What is counted of the logs, what is told of it, and what counts as a change."""

import re
from typing import Any

import polars as pl
import pytest

from beam.drift import changes
from beam.featurize import encode_items, encode_queries
from beam.positives import QUERIES
from beam.requests import SLOTS
from beam.statistics import (
    add_up,
    of_items,
    of_queries,
    of_query_tokens,
    of_requests,
    of_slots,
    summary,
)
from beam.stats_page import document
from tests.beam.tables import table
from tests.beam.test_examples import ITEMS, SPEC, VOCABULARIES
from tfrs_mmse.features import Featurizer


def told(*tables: pl.DataFrame) -> dict[str, Any]:
    """What all say together, however they are put together."""
    assert summary(add_up([*tables])) == summary(
        add_up([add_up(tables[:1]), add_up(tables[1:])])
    )
    return summary(add_up(tables))


def test_levels_are_counted_by_position_and_requests_by_day() -> None:
    slots = table(
        SLOTS,
        ("r", "a", 2, "q", 86399.0, 0, 1),
        ("r", "b", 1, "q", 86399.0, 500, 1),
        ("s", "a", 3, "q", 86400.0, -1, 1),
        ("s", "b", 1, "q", 86400.0, 10, 1),
        ("t", "b", 1, "q", 86401.0, 9, 1),
    )
    assert told(*of_slots(slots), *of_requests(slots)) == {
        "position": {
            "unclicked": {"9": 1, "10": 1, "99": 1},
            "clicked": {"0": 1},
            "ordered": {"-1": 1},
        },
        "day": {"1970-01-01": 1, "1970-01-02": 2},
    }


def test_queries_are_counted_by_how_frequent_they_are() -> None:
    rows = [
        (0, "red shoe", 1, 0),
        (0, "hat", 3, 0),
        (0, "cap", 2, 5),
        (0, "unseen", 0, 7),
    ]
    assert told(*of_queries(table(QUERIES, *rows))) == {
        "query_frequency": {"queries": {"1": 1, "2": 2}, "requests": {"1": 1, "2": 5}},
        "words": {"query": {"1": 3, "2": 1}},
    }


def test_items_are_counted_by_frequency_length_and_what_they_lack() -> None:
    items = encode_items(ITEMS, SPEC, Featurizer(SPEC, VOCABULARIES))
    stats = told(
        *of_items(
            items.with_columns(pl.Series("num_train", [9, None], pl.UInt64)), SPEC
        )
    )
    # red shoe | new, and hat; the vocabulary has red and shoe
    assert stats == {
        "item_frequency": {"items": {"0": 1, "8": 1}},
        "words": {"title": {"1": 1, "2": 1}, "tags": {"0": 1, "1": 1}},
        "token": {
            "items": {
                "word": {"known": 2, "unknown": 2},
                "bigram": {"known": 1},
                "character": {"unknown": 13},
            }
        },
        "value": {
            "title": {"known": 2},
            "tags": {"known": 1, "missing": 1},
            "price": {"known": 1, "missing": 1},
            "brand": {"known": 1, "missing": 1},
        },
    }


def test_the_tokens_of_queries_are_counted_by_split() -> None:
    queries = pl.DataFrame({"query": ["red cape", "", "cape"]})
    requests = encode_queries(queries, SPEC, Featurizer(SPEC, VOCABULARIES))
    stats = told(*of_query_tokens("test", requests, SPEC))
    assert stats["token"]["test"]["word"] == {"known": 1, "unknown": 2}


BEFORE = {
    "accounting": {"events": {"read": 1000, "used": 900, "dropped_unknown_item": 100}},
    "splits": {"train": {"requests": 100}},
    "position": {"unclicked": {"0": 80}, "clicked": {"0": 15}, "ordered": {"0": 5}},
    "words": {"query": {"2": 10}},
    "token": {"test": {"word": {"known": 99, "unknown": 1}}},
    "value": {"brand": {"known": 9, "missing": 1}},
    "day": {"2020-01-01": 50, "2020-01-02": 50},
}


@pytest.mark.parametrize(
    ("now", "sentences"),
    [
        ({}, []),
        # a quarter more is no news, a little more than that is
        ({"splits": {"train": {"requests": 125}}}, []),
        ({"splits": {"train": {"requests": 126}}}, ["train requests was 100 and is 126"]),
        ({"splits": {"train": {"requests": 79}}}, ["train requests was 100 and is 79"]),
        ({"splits": {"train": {"requests": 1234567}}}, ["train requests was 100 and is 1,234,567"]),
        # 1% to 2.9%: nearly thrice, and less than two points
        ({"token": {"test": {"word": {"known": 971, "unknown": 29}}}}, []),
        (
            {"token": {"test": {"word": {"known": 96, "unknown": 4}}}},
            ["unknown word tokens in test was 1.0% and is 4.0%"],
        ),
        ({"value": {"brand": {"known": 1, "missing": 1}}}, ["items without brand was 10.0% and is 50.0%"]),
        (
            {"position": {"unclicked": {"0": 80}, "clicked": {"0": 20}}},
            ["order rate of clicked items was 25.0% and is 0.0%"],
        ),
        ({"words": {"query": {"2": 5, "4": 5}}}, ["mean words of query was 2 and is 3"]),
        # what one of the runs does not have is not compared
        ({"words": {}, "value": {"color": {"missing": 9}}}, []),
    ],
)  # fmt: skip
def test_what_moved_far_is_named_with_its_figures(
    now: dict[str, Any], sentences: list[str]
) -> None:
    assert [str(change) for change in changes(BEFORE, {**BEFORE, **now})] == sentences


def test_the_page_tells_everything_and_nothing_of_strangers_runs_in_it() -> None:
    hostile = "<script>alert(1)</script>"
    stats = {
        **BEFORE,
        "value": {hostile: {"known": 9, "missing": 1}},
        "words": {hostile: {"2": 10}},
    }
    stats["query_frequency"] = {
        "queries": {"1": 4, "2": 3},
        "requests": {"1": 4, "2": 7},
    }
    stats["item_frequency"] = {"items": {"0": 2, "4": 1}}
    drift = changes(BEFORE, {**BEFORE, "splits": {"train": {"requests": 200}}})
    page = document("Logs", stats, drift, compared_to=hostile)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert (
        "train requests" in page and "dropped_unknown_item" in page and "10.00%" in page
    )
    assert {match for match in re.findall(r'(?:src|href)="([^"#]{5})', page)} <= {
        "data:"
    }
    assert page == document("Logs", stats, drift, compared_to=hostile)


def test_a_catalogue_alone_has_a_page_too() -> None:
    page = document(
        "Logs",
        {"accounting": {"items": {"read": 1, "used": 1}}, "splits": {}},
        [],
        compared_to="",
    )
    assert "items read" in page
