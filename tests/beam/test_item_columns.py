"""Which columns of a catalogue a trained model reads."""

import pytest

from beam.config import PreprocessConfig
from beam.item_columns import known_layout
from beam.items import item_layout
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import Grain, GrainKind

ROWS = [
    {"sku": "a", "title": "Red shoe", "brand": "Acme", "price": 10, "weight": 1, "updated_at": "2026-01-01"},
    {"sku": "b", "title": "Blue shoe", "brand": "", "price": None, "tags": "new"},
]  # fmt: skip
CONFIG = PreprocessConfig(item_columns={"item_id": "sku"})


def features(*left_out: str) -> schema.FeatureSpec:
    """The feature spec of examples made of `ROWS`, without the grains of some attributes."""
    spec = item_layout(ROWS, CONFIG, path="items").feature_spec(CONFIG)
    grains = [vars(grain) for grain in spec.grains if grain.name not in left_out]
    return schema.FeatureSpec.from_dict({**spec.to_dict(), "grains": grains})


def test_the_same_catalogue_is_read_as_it_was_for_the_examples() -> None:
    known = known_layout(features(), ROWS, CONFIG, path="items")
    assert known == item_layout(ROWS, CONFIG, path="items")
    assert known.unused == ("weight",)


def test_what_the_first_rows_fill_does_not_matter() -> None:
    # item_layout would not use the brand: none of these rows has one.
    rows = [{**ROWS[0], "brand": None, "tags": None}]
    assert known_layout(features(), rows, CONFIG, path="items").attributes == (
        ("brand", GrainKind.CATEGORICAL),
        ("price", GrainKind.NUMBER),
    )


def test_a_category_that_got_no_grain_is_still_text() -> None:
    known = known_layout(features("brand"), ROWS, CONFIG, path="items")
    assert known.text_fields == ("title", "brand", "tags")
    assert known.attributes == (("price", GrainKind.NUMBER),)


def test_new_columns_are_not_read() -> None:
    rows = [{**row, "color": "red"} for row in ROWS]
    known = known_layout(features(), rows, CONFIG, path="items")
    assert known.unused == ("weight", "color")


def test_a_column_that_the_model_reads_and_nobody_has_is_asked_for() -> None:
    rows = [{"sku": "a", "title": "Red shoe", "maker": "Acme", "tags": ""}]
    with pytest.raises(
        CommandError,
        match=r"^the model reads the columns brand, price, which items.csv does not have; it has sku, title, maker, "
        r'tags: name the columns that hold them in --config: {"item_columns": {"brand": "..."}}, or add them empty$',
    ):
        known_layout(features(), rows, CONFIG, path="items.csv")
    config = PreprocessConfig(
        item_columns={"item_id": "sku", "brand": "maker", "price": "tags"}
    )
    columns = known_layout(features(), rows, config, path="items.csv").columns
    assert (columns["brand"], columns["price"]) == ("maker", "tags")


def test_a_moment_is_read_where_it_is_there() -> None:
    rows = [{"sku": "a", "title": "", "brand": "", "price": 0, "tags": ""}]
    assert "updated_at" not in known_layout(features(), rows, CONFIG, path="x").columns
    assert known_layout(features(), ROWS, CONFIG, path="x").columns["updated_at"]
    config = PreprocessConfig(item_columns={"item_id": "sku", "updated_at": "changed"})
    with pytest.raises(CommandError, match="reads the columns changed, which x does"):
        known_layout(features(), rows, config, path="x")


def test_sizes_of_vocabularies_do_not_matter() -> None:
    spec = schema.FeatureSpec(
        text_fields=("title",),
        grains=(Grain(name="word", kind=GrainKind.TEXT, size=7),),
        max_query_words=1,
        max_field_words=1,
    )
    known = known_layout(spec, ROWS, CONFIG, path="x")
    assert (known.text_fields, known.attributes) == (("title",), ())
