import logging
from math import log

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse.bm25 import BM25


def test_scores_are_bm25_of_the_folded_words() -> None:
    # 4 items of 2, 2, 4 and 4 words, 3 on average. `acai` is in 1 of them: idf = log(1 + (4 - 1 + 0.5) / (1 + 0.5)).
    # Once in 2 words: tf = 1 / (1 + k1 * (1 - b + b * 2 / 3)) with k1 = 1.5 and b = 0.75, that is 1 / (1 + 1.125).
    index = BM25(
        [
            "AÇAÍ  bowl".encode(),
            b"red nut",
            b"one two three four",
            b"five six seven eight",
        ]
    )
    result = index.search(["Açaí!".encode()], 4)
    assert_array_equal(result.index, [[0, -1, -1, -1]])
    assert_allclose(result.score[0, 0], log(1 + 3.5 / 1.5) / 2.125, rtol=1e-6)


def test_rare_words_count_more_and_short_texts_win() -> None:
    index = BM25(
        [b"red nut", b"red bolt", b"red screw", b"nut red red long long long text"]
    )
    assert_array_equal(index.search([b"red nut"], 4).index, [[0, 3, 1, 2]])


def test_items_that_share_no_word_with_the_query_are_no_results() -> None:
    index = BM25([b"red nut", b"blue bolt", b"red bolt"])
    result = index.search([b"red", b"green", b"", b"!?"], 3)
    assert_array_equal(
        result.index, [[0, 2, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    )
    assert np.isneginf(result.score[result.index < 0]).all()


def test_equal_texts_rank_by_row() -> None:
    assert_array_equal(
        BM25([b"nut"] * 50).search([b"nut"], 7).index, [[0, 1, 2, 3, 4, 5, 6]]
    )


def test_no_word_is_cut_however_long_the_text_and_however_many_there_are() -> None:
    long_text = " ".join(f"word{i}" for i in range(100_000)).encode()
    assert_array_equal(
        BM25([b"nut", long_text]).search([b"word99999"], 2).index, [[1, -1]]
    )


def test_unspaced_scripts_are_found_by_their_characters() -> None:
    assert_array_equal(
        BM25(["紅茶".encode(), "赤いナット".encode()])
        .search(["ナット".encode()], 2)
        .index,
        [[1, -1]],
    )


def test_the_result_does_not_depend_on_how_many_queries_are_asked_at_once() -> None:
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{i}" for i in rng.zipf(1.5, size=8) % 50).encode()
        for _ in range(300)
    ]
    queries = [
        " ".join(f"w{i}" for i in rng.integers(0, 60, size=3)).encode()
        for _ in range(150)
    ]
    index = BM25(texts)
    together = index.search(queries, 20)
    alone = [index.search([query], 20) for query in queries]
    assert_array_equal(together.index, np.concatenate([a.index for a in alone]))
    assert_array_equal(together.score, np.concatenate([a.score for a in alone]))


def test_a_catalogue_without_words_answers_nothing() -> None:
    assert_array_equal(BM25([b"!", b""]).search([b"nut"], 5).index, [[-1, -1]])


def test_the_library_says_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger=""):
        BM25([b"nut"]).search([b"nut", b"bolt"], 1)
    assert not [record for record in caplog.records if record.name.startswith("bm25s")]
    assert capsys.readouterr() == ("", "")
