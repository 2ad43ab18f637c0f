import logging
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import bm25, schema
from tfrs_mmse.bm25 import B_GRID, BM25, K1_GRID, Parameters


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


def test_k1_and_b_are_what_they_are_called() -> None:
    # `nut` twice in 2 of 2.5 words on average, idf = log(1 + (2 - 1 + 0.5) / (1 + 0.5)) = log(2);
    # tf = 2 / (2 + k1 * (1 - b + b * 2 / 2.5)) with k1 = 0.5 and b = 1: 2 / (2 + 0.4).
    index = BM25([b"nut nut", b"one two three"], k1=0.5, b=1.0)
    assert (index.k1, index.b) == (0.5, 1.0)
    assert_allclose(index.search([b"nut"], 1).score, [[log(2) * 2 / 2.4]], rtol=1e-6)


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


def test_the_search_over_the_grid_goes_from_the_defaults_along_one_parameter_at_a_time() -> (
    None
):
    tried: Counter[Parameters] = Counter()

    def hill(parameters: Parameters) -> float:
        tried[parameters] += 1
        # Highest at (0.4, 1.0); along k1 alone, from b = 0.75, also at 0.4.
        return -abs(parameters.k1 - 0.4) - abs(parameters.b - 1.0)

    assert bm25.coordinate_search(hill) == (0.4, 1.0)
    # All of k1 with b = 0.75, all of b with k1 = 0.4, then all of k1 with b = 1.0; the points in common once.
    assert len(tried) == len(K1_GRID) + len(B_GRID) + len(K1_GRID) - 2
    assert set(tried.values()) == {1}


def test_where_all_parameters_are_as_good_the_defaults_stay() -> None:
    assert bm25.coordinate_search(lambda _: 0.5) == (1.5, 0.75)


def write_examples(
    directory: Path, train: list[tuple[bytes, list[tuple[bytes, int]]]]
) -> None:
    """A manifest and the train split: queries, and for each its items with their levels."""
    levels = Counter(level for _, items in train for _, level in items)
    counts = {
        "requests": len(train),
        "queries": len({query for query, _ in train}),
        **{level.name.lower(): levels[level] for level in schema.Level},
    }
    manifest = schema.Manifest(
        features=schema.FeatureSpec(
            text_fields=("title",), grains=(), max_query_words=8, max_field_words=8
        ),
        num_items=4,
        splits={schema.TRAIN: counts} if train else {},
        accounting={},
        sources={},
        config={},
        vocabulary_hash="",
    )
    (directory / schema.MANIFEST).write_text(manifest.to_json())
    with tf.io.TFRecordWriter(
        str(directory / "train-00000-of-00001.tfrecord.gz"), "GZIP"
    ) as writer:
        for query, items in train:
            features = {
                schema.QUERY: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[query])
                ),
                schema.ITEM_ID: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[item for item, _ in items])
                ),
                schema.LEVEL: tf.train.Feature(
                    int64_list=tf.train.Int64List(value=[level for _, level in items])
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def test_parameters_are_tuned_to_find_what_train_queries_clicked(
    tmp_path: Path,
) -> None:
    # The ten clicked items are long and come first; thirty short ones say `nut` as often. The default b ranks the short
    # ones first, b = 0 calls it a tie, which goes to the lower rows.
    texts = [b"nut a b c d e f g"] * 10 + [b"nut"] * 30
    item_ids = [b"%02d" % i for i in range(40)]
    write_examples(tmp_path, [(b"nut", [(item_id, 2) for item_id in item_ids[:10]])])

    def num_clicked(index: BM25) -> int:
        return int((index.search([b"nut"], 10).index < 10).sum())

    assert num_clicked(BM25(texts)) == 0
    tuned = bm25.tuned(tmp_path, item_ids, texts)
    assert (tuned.k1, tuned.b) == (1.5, 0.0)
    assert num_clicked(tuned) == 10


def test_the_sample_of_queries_holds_clicked_and_ordered_items_only(
    tmp_path: Path,
) -> None:
    write_examples(
        tmp_path,
        [
            (b"nut", [(b"0", 1), (b"1", 2)]),
            (b"bolt", [(b"0", 1)]),
            (b"nut", [(b"1", 3), (b"2", 2)]),
        ],
    )
    assert bm25.sample_queries(tmp_path, 10) == {b"nut": {b"1": 3, b"2": 2}}


def test_the_sample_of_queries_is_as_large_as_wanted_and_always_the_same(
    tmp_path: Path,
) -> None:
    train = [(b"query%d" % i, [(b"%d" % i, 2)]) for i in range(1000)]
    write_examples(tmp_path, train)
    sample = bm25.sample_queries(tmp_path, 50)
    assert len(sample) == 50
    assert list(sample) == list(bm25.sample_queries(tmp_path, 100))[:50]
    write_examples(tmp_path, train[::-1])
    assert list(bm25.sample_queries(tmp_path, 50)) == list(sample)


def test_without_clicks_in_the_train_split_the_defaults_stay_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_examples(tmp_path, [])
    index = bm25.tuned(tmp_path, [b"0"], [b"nut"])
    assert (index.k1, index.b) == (1.5, 0.75)
    assert (
        "no clicks in the train split: BM25 keeps its default parameters, k1 = 1.5 and b = 0.75"
        in capsys.readouterr().err
    )
