"""Which tokens and values get ids, and which ids."""

import math

import polars as pl
import pytest

from beam.vocabulary import (
    COUNTS,
    count_attributes,
    count_tokens,
    most_frequent,
    quantile_boundaries,
    sum_counts,
    vocabularies,
    vocabulary_text,
)
from tests.beam.tables import table
from tfrs_mmse.schema import GrainKind

KINDS = {"brand": GrainKind.CATEGORICAL, "price": GrainKind.NUMBER}


def as_dict(counts: pl.DataFrame) -> dict[tuple[str, str], int]:
    assert counts.columns == list(COUNTS)
    return {(grain, entry): number for grain, entry, number in counts.rows()}


def test_tokens_of_every_text_grain_are_counted() -> None:
    assert as_dict(count_tokens(pl.Series(["Ab ab cd", "É!"]), max_words=3)) == {
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


def test_a_text_counts_as_often_as_it_occurs_and_only_so_many_words_of_it() -> None:
    counts = as_dict(
        count_tokens(pl.Series(["a b cut", "a"]), pl.Series([3, 10]), max_words=2)
    )
    assert counts["word", "a"] == 13
    assert counts["word", "b"] == counts["bigram", "a b"] == 3
    assert ("word", "cut") not in counts


def test_texts_of_many_batches_add_up() -> None:
    counts = as_dict(
        count_tokens(pl.Series([f"a w{n % 3}" for n in range(9000)]), max_words=9)
    )
    assert counts["word", "a"] == 9000 and counts["word", "w2"] == 3000


def test_no_texts_have_no_tokens() -> None:
    assert as_dict(count_tokens(pl.Series([], dtype=pl.String), max_words=9)) == {}


def test_attribute_values_are_counted_folded_and_numbers_rounded_to_three_digits() -> (
    None
):
    items = pl.DataFrame(
        {
            "attribute:brand": ["Acmé  Inc", "ACME inc ", "", " "],
            "attribute:price": [12.34, 12.26, math.nan, 0.0],
        }
    )
    assert as_dict(count_attributes(items, KINDS)) == {
        ("brand", "acme inc"): 2,
        ("price", "12.3"): 2,
        ("price", "0.0"): 1,
    }


@pytest.mark.parametrize(
    ("counts", "num_buckets", "boundaries"),
    [
        ([(4.0, 1), (1.0, 1), (3.0, 1), (2.0, 1)], 2, [3.0]),  # sorted 1 2 | 3 4
        ([(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)], 4, [2.0, 3.0, 4.0]),
        # Nearly all alike: one boundary, not nine.
        ([(1.0, 98), (2.0, 1), (3.0, 1)], 10, [1.0]),
        ([(1.0, 1), (2.0, 1)], 3, [1.0, 2.0]),  # ranks 2 // 3 = 0 and 4 // 3 = 1
        ([(7.0, 5)], 10, [7.0]),
        ([], 10, []),
    ],
)
def test_quantile_boundaries_are_distinct_and_ascending(
    counts: list[tuple[float, int]], num_buckets: int, boundaries: list[float]
) -> None:
    assert quantile_boundaries(counts, num_buckets) == boundaries


HATS = table(
    COUNTS,
    ("word", "hat", 4),
    ("word", "zoo", 2),
    ("word", "red", 2),
    ("word", "x", 1),
    ("brand", "acme", 2),
)


@pytest.mark.parametrize(
    ("min_count", "max_entries", "words"),
    [
        (1, 9, ["hat", "red", "zoo", "x"]),
        (2, 9, ["hat", "red", "zoo"]),
        (2, 2, ["hat", "red"]),
    ],
)
def test_entries_come_most_frequent_first_and_ties_by_name(
    min_count: int, max_entries: int, words: list[str]
) -> None:
    chosen = most_frequent(HATS, min_count=min_count, max_entries=max_entries)
    assert chosen.filter(pl.col("grain") == "word")["entry"].to_list() == words
    assert chosen.filter(pl.col("grain") == "brand")["entry"].to_list() == ["acme"]


def test_choosing_among_what_was_chosen_apart_gives_the_same() -> None:
    apart = [most_frequent(HATS[n::2], min_count=2, max_entries=2) for n in range(2)]
    again = most_frequent(sum_counts(apart), min_count=1, max_entries=2)
    assert again.equals(most_frequent(HATS, min_count=2, max_entries=2))


def test_every_grain_has_a_vocabulary_though_nothing_was_counted() -> None:
    counts = table(
        COUNTS,
        ("word", "b", 2),
        ("word", "ação", 1),
        ("price", "20.0", 1),
        ("price", "10.0", 1),
    )
    kinds = {"word": GrainKind.TEXT, "bigram": GrainKind.TEXT, **KINDS}
    assert vocabularies(counts, kinds, number_buckets=2) == [
        ("word", ["b", "ação"]),
        ("bigram", []),
        ("brand", []),
        ("price", ["20.0"]),  # 10 | 20
    ]
    assert vocabulary_text(["b", "ação"]) == "b\nação\n"
