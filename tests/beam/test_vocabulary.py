"""Which tokens and values get ids, and which ids."""

import math
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that

from beam.config import PreprocessConfig
from beam.items import Item
from beam.vocabulary import (
    BuildVocabularies,
    WriteVocabularies,
    count_attributes,
    count_tokens,
    quantile_boundaries,
)
from tfrs_mmse.schema import FeatureSpec, Grain, GrainKind

TEXT = tuple(
    Grain(name=name, kind=GrainKind.TEXT, size=0)
    for name in ("word", "bigram", "character")
)
BRAND = Grain(name="brand", kind=GrainKind.CATEGORICAL, size=0)
PRICE = Grain(name="price", kind=GrainKind.NUMBER, size=0)
SPEC = FeatureSpec(
    text_fields=("title", "tags"),
    grains=(*TEXT, BRAND, PRICE),
    max_query_words=2,
    max_field_words=2,
)


def test_tokens_of_every_text_grain_are_counted() -> None:
    assert count_tokens(["Ab ab cd", "É!"], max_words=3) == {
        ("word", "ab"): 2,
        ("word", "cd"): 1,
        ("word", "e"): 1,
        ("bigram", "ab ab"): 1,
        ("bigram", "ab cd"): 1,
        ("character", "_ab"): 2,
        ("character", "ab_"): 2,
        ("character", "_cd"): 1,
        ("character", "cd_"): 1,
        ("character", "_e_"): 1,
    }


def test_attribute_values_are_counted_folded_and_numbers_rounded_to_three_digits() -> (
    None
):
    kinds = {"brand": GrainKind.CATEGORICAL, "price": GrainKind.NUMBER}
    rows = [("Acmé  Inc", 12.34), ("ACME inc ", 12.26), ("", math.nan), (" ", 0.0)]
    assert count_attributes(rows, kinds) == Counter(
        {("brand", "acme inc"): 2, ("price", "12.3"): 2, ("price", "0.0"): 1}
    )


@pytest.mark.parametrize(
    ("counts", "num_buckets", "boundaries"),
    [
        ([(4.0, 1), (1.0, 1), (3.0, 1), (2.0, 1)], 2, [3.0]),  # sorted 1 2 | 3 4
        ([(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)], 4, [2.0, 3.0, 4.0]),
        # Nearly all alike: one boundary, not nine.
        (
            [(1.0, 98), (2.0, 1), (3.0, 1)],
            10,
            [1.0],
        ),
        ([(1.0, 1), (2.0, 1)], 3, [1.0, 2.0]),  # ranks 2 // 3 = 0 and 4 // 3 = 1
        ([(7.0, 5)], 10, [7.0]),
        ([], 10, []),
    ],
)
def test_quantile_boundaries_are_distinct_and_ascending(
    counts: list[tuple[float, int]], num_buckets: int, boundaries: list[float]
) -> None:
    assert quantile_boundaries(counts, num_buckets) == boundaries


def check(config: PreprocessConfig, expected: dict[str, list[str] | None]) -> None:
    """Asserts some vocabularies of three items and two train queries; None: the grain has none."""
    items = [
        # Two words of each field are used: red shoe, zoo x.
        Item("1", ("red shoe", "zoo x cut cut"), ("Acme", 10.0)),
        Item("2", ("red hat", ""), ("Zed", 20.0)),
        Item("3", ("hat zoo", ""), ("acme", math.nan)),
    ]

    def matches(vocabularies: list[tuple[str, list[str]]]) -> None:
        assert len(dict(vocabularies)) == len(vocabularies)
        assert {name: dict(vocabularies).get(name) for name in expected} == expected

    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        given = pipeline | "Items" >> beam.Create(items)
        # Two words are used: hat cap.
        queries = pipeline | "Queries" >> beam.Create(["hat cap cut", "hat"])
        assert_that((given, queries) | BuildVocabularies(SPEC, config), matches)


def test_entries_come_most_frequent_first_and_ties_by_name() -> None:
    # hat: two items and two queries; red and zoo: two items; cap, shoe, x: once
    words: list[str] | None = ["hat", "red", "zoo", "cap", "shoe", "x"]
    config = PreprocessConfig(min_count=1, number_buckets=2)
    check(config, {"word": words, "brand": ["acme", "zed"], "price": ["20.0"]})


def test_rare_entries_are_left_out_and_the_rest_is_cut_at_the_limit() -> None:
    config = PreprocessConfig(min_count=2, max_vocabulary=2)
    # No bigram occurs twice.
    check(config, {"word": ["hat", "red"], "brand": ["acme"], "bigram": None})


def test_a_grain_without_entries_has_an_empty_file(tmp_path: Path) -> None:
    with test_pipeline.TestPipeline(runner=FnApiRunner()) as pipeline:
        vocabularies = pipeline | beam.Create(
            [("word", ["b", "ação"]), ("price", ["1.0"])]
        )
        _ = vocabularies | WriteVocabularies(str(tmp_path), SPEC)
    written = {
        path.name: path.read_bytes().decode() for path in (tmp_path / "vocab").iterdir()
    }
    empty = dict.fromkeys(("bigram.txt", "character.txt", "brand.txt"), "")
    assert written == {"word.txt": "b\nação\n", "price.txt": "1.0\n", **empty}
