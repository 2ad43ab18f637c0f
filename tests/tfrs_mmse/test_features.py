import math
from pathlib import Path

import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from tfrs_mmse import schema
from tfrs_mmse.features import Featurizer, read_vocabularies

GRAINS = (
    schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=4),
    schema.Grain(name="bigram", kind=schema.GrainKind.TEXT, size=2),
    schema.Grain(name="character", kind=schema.GrainKind.TEXT, size=2),
    schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=3),
    schema.Grain(name="price", kind=schema.GrainKind.NUMBER, size=4),
)
VOCABULARIES = {
    "word": ["blue", "mug", "tea"],
    "bigram": ["blue mug"],
    "character": ["_mu"],
    "brand": ["acme co", "zeta"],
    "price": ["10.0", "20.0"],
}


@pytest.fixture
def featurizer() -> Featurizer:
    spec = schema.FeatureSpec(
        text_fields=("title", "tags"),
        grains=GRAINS,
        max_query_words=8,
        max_field_words=4,
    )
    return Featurizer(spec, VOCABULARIES)


def test_query_tokens_become_line_numbers_and_unknown_ones_zero(featurizer: Featurizer):
    ids = featurizer.query(tf.constant(["Blue MUG!", "red mug", ""]))
    assert ids["word"].to_list() == [[1, 2], [0, 2], []]
    assert ids["bigram"].to_list() == [[1], [0], []]
    assert set(ids) == {"word", "bigram", "character"}


def test_item_text_is_looked_up_field_by_field_and_cut_to_its_first_words(
    featurizer: Featurizer,
):
    ids = featurizer.items(fields(title="blue mug", tags="tea x y z blue"))
    assert ids["word"].to_list() == [[[1, 2], [3, 0, 0, 0]]]  # blue is the fifth word
    assert ids["bigram"].to_list() == [[[1], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("brand", "expected"), [(" ACME  Co", 1), ("zéta", 2), ("other", 0), ("", 0)]
)
def test_categories_are_folded_and_rare_or_missing_ones_are_zero(
    featurizer: Featurizer, brand: str, expected: int
):
    assert_array_equal(featurizer.items(fields(brand=brand))["brand"], [expected])


@pytest.mark.parametrize(
    ("price", "expected"), [(9.99, 1), (10.0, 2), (19.0, 2), (20.0, 3), (math.nan, 0)]
)
def test_numbers_fall_into_buckets_and_missing_ones_are_zero(
    featurizer: Featurizer, price: float, expected: int
):
    assert_array_equal(featurizer.items(fields(price=price))["price"], [expected])


def test_with_empty_vocabularies_everything_is_unknown():
    spec = schema.FeatureSpec(
        text_fields=("title",), grains=GRAINS, max_query_words=8, max_field_words=4
    )
    featurizer = Featurizer(spec, {name: [] for name in VOCABULARIES})
    ids = featurizer.items(fields(title="blue mug", brand="acme co", price=5.0))
    assert ids["word"].to_list() == [[[0, 0]]]
    assert_array_equal(ids["brand"], [0])
    assert_array_equal(ids["price"], [1])


def test_the_item_signature_names_every_raw_field(featurizer: Featurizer):
    dtypes = {name: spec.dtype for name, spec in featurizer.item_signature().items()}
    assert dtypes == {
        "title": tf.string,
        "tags": tf.string,
        "brand": tf.string,
        "price": tf.float32,
    }


def test_vocabularies_are_read_back_line_by_line(tmp_path: Path):
    (tmp_path / schema.VOCABULARY_DIR).mkdir()
    for name, lines in VOCABULARIES.items():
        path = tmp_path / schema.VOCABULARY_DIR / f"{name}.txt"
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert read_vocabularies(tmp_path, GRAINS) == VOCABULARIES


def fields(
    *, title: str = "", tags: str = "", brand: str = "", price: float = math.nan
) -> dict[str, tf.Tensor]:
    return {
        "title": tf.constant([title]),
        "tags": tf.constant([tags]),
        "brand": tf.constant([brand]),
        "price": tf.constant([price], tf.float32),
    }
