"""Encoding: laws of the records; their exact content is in test_preprocess."""

import math

import polars as pl
import tensorflow as tf

from beam.clock import Clock
from beam.examples import encode_items as item_records
from beam.examples import encode_requests, query_pieces, slot_pieces, slot_schema
from beam.featurize import encode_items, encode_queries
from beam.items import ItemLayout
from tests.beam.tables import table
from tfrs_mmse.features import Featurizer
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
LAYOUT = ItemLayout(
    columns={},
    text_fields=SPEC.text_fields,
    attributes=(("price", GrainKind.NUMBER), ("brand", GrainKind.CATEGORICAL)),
    unused=(),
    clock=Clock(),
)
VOCABULARIES = {
    "word": ["red", "shoe"],
    "bigram": ["red shoe"],
    "character": [],
    "price": ["10.0", "20.0"],
    "brand": ["acme"],
}
ITEMS = table(
    LAYOUT.table_schema(),
    ("1", 0.0, "Red SHOE", "new", 10.0, "ACME"),
    ("2", 0.0, "hat", "", math.nan, ""),
)


def encoded(items: pl.DataFrame = ITEMS) -> pl.DataFrame:
    probability = pl.lit(-1.5, pl.Float32).alias("log_probability")
    return encode_items(items, SPEC, Featurizer(SPEC, VOCABULARIES)).with_columns(
        probability
    )


def with_pieces(requests: pl.DataFrame) -> pl.DataFrame:
    queries = encode_queries(requests, SPEC, Featurizer(SPEC, VOCABULARIES))
    return query_pieces(queries, SPEC)


def records_of(items: pl.DataFrame) -> list[bytes]:
    return list(item_records(items, slot_pieces(items, SPEC), SPEC))


def features_of(record: bytes) -> dict[str, list[object]]:
    found = tf.train.Example.FromString(record).features.feature
    return {
        name: list(getattr(f, str(f.WhichOneof("kind"))).value)
        for name, f in found.items()
    }


def test_items_have_their_ids_field_by_field() -> None:
    assert encoded().drop(*ITEMS.columns, "log_probability").rows() == [
        # red shoe | new; [red shoe]; 3 + 4 | 3 trigrams of which the vocabulary has none; 10 >= 10; acme
        ([1, 2, 0], [2, 1], [1], [1, 0], [0] * 10, [7, 3], 2, 1),
        ([0], [1, 0], [], [0, 0], [0] * 3, [3, 0], 0, 0),
    ]


def test_no_items_are_no_failure() -> None:
    assert slot_pieces(encoded(ITEMS[:0]), SPEC).schema == pl.Schema(slot_schema(SPEC))
    assert records_of(encoded(ITEMS[:0])) == []


def test_an_items_record_has_its_text_field_by_field() -> None:
    first, second = (features_of(record) for record in records_of(encoded()))
    assert (first["item/title"], first["item/text"]) == (
        [b"Red SHOE"],
        [b"Red SHOE\nnew"],
    )
    assert (second["item/title"], second["item/text"]) == ([b"hat"], [b"hat"])
    assert (
        first["item/level"],
        first["item/position"],
        first["item/log_probability"],
    ) == ([0], [-1], [-1.5])
    assert second["item/word/length"] == [1, 0]


def test_each_request_has_its_own_slots_in_their_order() -> None:
    slots = pl.DataFrame(
        {"item_id": ["2", "1", "1"], "level": [3, 1, 2], "position": [-1, 7, 0]}
    )
    slots = slots.join(
        slot_pieces(encoded(), SPEC), on="item_id", maintain_order="left"
    )
    requests = pl.DataFrame(
        {"query": ["red", "shoe"], "positives": [["9", "2"], []], "num_slots": [2, 1]}
    )
    first, second = (
        features_of(record)
        for record in encode_requests(with_pieces(requests), slots, SPEC)
    )
    assert first["query"] == [b"red"] and second["query"] == [b"shoe"]
    assert (
        first["query/positive_item_id"] == [b"9", b"2"]
        and second["query/positive_item_id"] == []
    )
    assert first["query/word"] == [1] and second["query/word"] == [2]
    assert first["item_id"] == [b"2", b"1"] and second["item_id"] == [b"1"]
    assert first["item/level"] == [3, 1] and first["item/position"] == [-1, 7]
    assert first["item/word"] == [0, 1, 2, 0] and second["item/word"] == [1, 2, 0]
    assert first["item/word/length"] == [1, 0, 2, 1]
    assert (
        first["item/bigram"] == [1]
        and first["item/price"] == [0, 2]
        and second["item/brand"] == [1]
    )


def test_more_requests_than_one_batch_are_all_there() -> None:
    num = 2500
    slots = pl.DataFrame(
        {
            "item_id": ["1", "2"] * num,
            "level": [2] * (2 * num),
            "position": range(2 * num),
        }
    )
    slots = slots.join(
        slot_pieces(encoded(), SPEC), on="item_id", maintain_order="left"
    )
    requests = pl.DataFrame(
        {"query": ["red"] * num, "positives": [[]] * num, "num_slots": [2] * num}
    )
    requests = requests.with_columns(pl.col("positives").cast(pl.List(pl.String)))
    records = encode_requests(with_pieces(requests), slots, SPEC)
    assert [features_of(record)["item/position"] for record in records] == [
        [2 * n, 2 * n + 1] for n in range(num)
    ]
