import math
from collections import Counter

import tensorflow as tf
from numpy.testing import assert_array_equal

from tfrs_mmse import schema, synthetic
from tfrs_mmse.features import Featurizer
from tfrs_mmse.records import Catalogue, Items


def draw(texts: list[str], seed: int = 0) -> list[list[str]]:
    queries = synthetic.random_words(tf.constant(texts), seed=tf.constant([seed, 0]))
    return [query.decode().split() for query in queries.numpy()]


def test_each_item_is_the_clicked_answer_to_its_own_words():
    grains = tuple(
        schema.Grain(name=name, kind=schema.GrainKind.TEXT, size=0)
        for name in schema.TEXT_GRAINS
    )
    spec = schema.FeatureSpec(
        text_fields=("title", "tags"),
        grains=grains,
        max_query_words=8,
        max_field_words=8,
    )
    featurizer = Featurizer(
        spec, {"word": ["blue", "mug", "hat"], "bigram": [], "character": []}
    )
    items = Items(tf.constant([7, 9], tf.int64), {}, tf.fill([2], -math.inf))
    catalogue = Catalogue(
        items,
        item_id=tf.constant(["m", "h"]),
        title=tf.constant(["Blue", "HAT"]),
        text=tf.constant(["Blue\nmug", "HAT"]),
    )
    asked = [
        synthetic.requests(catalogue, featurizer, seed=tf.constant([0, n]))
        for n in range(20)
    ]
    first = asked[0]
    assert_array_equal(first.request, [0, 1])
    assert_array_equal(first.level, [schema.Level.CLICKED] * 2)
    assert first.positive_key.to_list() == [[7], [9]]
    assert_array_equal(first.items.key, [7, 9])
    queries = [requests.query_ids["word"].to_list() for requests in asked]
    assert all(hat == [3] for _, hat in queries)
    # Of the title alone, or of the whole text.
    assert {tuple(mug) for mug, _ in queries} == {(1,), (2,), (1, 2)}


def test_a_query_is_one_to_four_words_of_its_text_in_their_order():
    queries = draw(["a b c d e f"] * 500)
    assert all(query == sorted(set(query)) for query in queries)
    assert {len(query) for query in queries} == {1, 2, 3, 4}


def test_every_number_of_words_and_every_word_is_as_likely_as_any_other():
    queries = draw(["a b c d e f"] * 6000)
    lengths = Counter(map(len, queries))
    # 1500 of each length, with a standard deviation of about 34.
    assert all(abs(lengths[n] - 1500) < 150 for n in (1, 2, 3, 4))
    # 15000 words drawn from 6: 2500 of each, with a standard deviation of less than 46.
    words = Counter(word for query in queries for word in query)
    assert all(abs(words[word] - 2500) < 200 for word in "abcdef")


def test_a_short_text_gives_all_it_has_and_an_empty_one_nothing():
    assert set(map(tuple, draw(["Caneca", "", "🎄"] * 20))) == {("caneca",), ()}


def test_rows_are_drawn_apart_and_equal_seeds_draw_alike():
    texts = ["a b c d e f g h"] * 50
    assert draw(texts, seed=1) == draw(texts, seed=1) != draw(texts, seed=2)
    assert len(set(map(tuple, draw(texts)))) > 10


def test_a_row_does_not_depend_on_the_length_of_the_others():
    # Ranks are taken inside a row: a long neighbour must not push out a short text's words.
    assert draw(["a b", "c " * 60, "d"])[2] == ["d"]


def test_either_is_an_even_chance():
    first, second = tf.fill([2000], "x"), tf.fill([2000], "y")
    mixed = synthetic.either(first, second, seed=tf.constant([3, 4])).numpy().tolist()
    assert 900 < mixed.count(b"x") < 1100  # a standard deviation is 22
    assert mixed.count(b"x") + mixed.count(b"y") == 2000
