"""Joining and encoding: laws of the records; their exact content is in test_preprocess."""

import math

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import read_counters
from beam.examples import EncodeRequests
from beam.featurize import EncodedItem, EncodeItems
from beam.items import Item
from beam.join import JoinItems, PlacedItem, log_share
from beam.requests import Request, Slot
from tfrs_mmse.schema import FeatureSpec, Grain, GrainKind

SPEC = FeatureSpec(
    text_fields=("title", "tags"),
    grains=(
        *(
            Grain(name=name, kind=GrainKind.TEXT, size=0)
            for name in ("word", "bigram", "character")
        ),
        Grain(name="price", kind=GrainKind.NUMBER, size=0),
        Grain(name="brand", kind=GrainKind.CATEGORICAL, size=0),
    ),
    max_query_words=8,
    max_field_words=8,
)
VOCABULARIES = [
    ("word", ["red", "shoe"]),
    ("bigram", ["red shoe"]),
    ("price", ["10.0", "20.0"]),
    ("brand", ["acme"]),
]


def ids(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


NONE = ids(0, 0)  # no ids of either text field


def test_items_are_encoded_once_with_their_text() -> None:
    items = [
        Item("1", ("Red SHOE", "new"), (10.0, "ACME")),
        Item("2", ("hat", ""), (math.nan, "")),
    ]
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        given = pipeline | "Items" >> beam.Create(items)
        vocabularies = pipeline | "Vocabularies" >> beam.Create(VOCABULARIES)
        encoded = (given, vocabularies) | EncodeItems(SPEC)
        # Each starts with how many ids the title and the tags have.
        # red shoe | new; [red shoe]; 3 + 4 | 3 trigrams of which the vocabulary has none; 10 >= 10; acme
        first = (ids(2, 1, 1, 2, 0), ids(1, 0, 1), ids(7, 3, *[0] * 10), ids(2), ids(1))
        second = (ids(1, 0, 0), ids(0, 0), ids(3, 0, 0, 0, 0), ids(0), ids(0))
        expected = [
            ("1", EncodedItem("Red SHOE", "Red SHOE\nnew", first)),
            ("2", EncodedItem("hat", "hat", second)),
        ]
        assert_that(encoded, equal_to(expected))


def test_an_items_probability_is_its_share_of_train_slots() -> None:
    def request(request_id: str, split: str, *item_ids: str) -> Request:
        return Request(
            request_id,
            "q",
            0.0,
            tuple(Slot(item_id, 2, -1, 1) for item_id in item_ids),
            split,
        )

    requests = [
        request("r1", "train", "a", "b"),
        request("r2", "train", "a", "c"),
        request("r3", "test", "d", "a"),
    ]
    encoded = {
        item_id: EncodedItem(item_id, "", (item_id.encode(),)) for item_id in "abcde"
    }
    half, quarter = math.log(2 / 4), math.log(1 / 4)
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        given = pipeline | "Items" >> beam.Create(list(encoded.items()))
        joined = (given, pipeline | "Requests" >> beam.Create(requests)) | JoinItems()
        shares = joined.items | beam.Map(lambda item: item[:2])
        never = -math.inf
        expected = [
            ("a", half),
            ("b", quarter),
            ("c", quarter),
            ("d", never),
            ("e", never),
        ]
        assert_that(shares, equal_to(expected), label="items")
        placed = [
            ("r1", PlacedItem(0, (b"a",), half)),
            ("r1", PlacedItem(1, (b"b",), quarter)),
            ("r2", PlacedItem(0, (b"a",), half)),
            ("r2", PlacedItem(1, (b"c",), quarter)),
            ("r3", PlacedItem(0, (b"d",), never)),
            ("r3", PlacedItem(1, (b"a",), half)),
        ]
        assert_that(joined.placed, equal_to(placed), label="placed")


def test_log_share_of_nothing_is_minus_infinity() -> None:
    assert log_share(0, 0) == -math.inf
    assert log_share(3, 3) == 0


def encode(placed: list[PlacedItem]) -> test_pipeline.TestPipeline:
    request = Request(
        "r1", "red", 0.0, (Slot("b", 3, -1, 2), Slot("a", 1, 7, 1)), "test", ("c",)
    )
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    requests = pipeline | "Requests" >> beam.Create([request])
    shares = pipeline | "Placed" >> beam.Create([("r1", item) for item in placed])
    vocabularies = pipeline | "Vocabularies" >> beam.Create(VOCABULARIES)
    records = (requests, shares, vocabularies) | EncodeRequests(SPEC, num_shards=2)

    def matches(found: list) -> None:
        ((split, (_, (_, record))),) = found
        features = tf.train.Example.FromString(record).features.feature
        assert split == "test"
        assert list(features["item_id"].bytes_list.value) == [b"b", b"a"]
        assert list(features["item/word"].int64_list.value) == [2, 1, 0]
        assert list(features["item/word/length"].int64_list.value) == [1, 0, 1, 1]
        assert list(features["item/bigram"].int64_list.value) == []
        assert list(features["item/price"].int64_list.value) == [3, 0]
        assert list(features["query/word"].int64_list.value) == [1]

    assert_that(records, matches)
    return pipeline


def test_a_record_holds_its_items_in_the_order_of_the_slots() -> None:
    a = PlacedItem(1, (ids(1, 1, 1, 0), NONE, NONE, ids(0), ids(0)), -1.0)
    b = PlacedItem(0, (ids(1, 0, 2), NONE, NONE, ids(3), ids(1)), -2.0)
    counters = read_counters(encode([a, b]).run(), ["events", "test"])
    assert counters == {
        "events": {"used": 3},
        "test": {"ordered": 1, "requests": 1, "unclicked": 1},
    }


def test_a_lost_item_stops_the_pipeline() -> None:
    with pytest.raises(
        ValueError, match="request 'r1' did not get each of its items exactly once"
    ):
        encode(
            [PlacedItem(1, (ids(1, 1, 1, 0), NONE, NONE, ids(0), ids(0)), -1.0)]
        ).run()
