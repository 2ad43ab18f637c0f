from collections import Counter

import tensorflow as tf

from tfrs_mmse import synthetic


def draw(texts: list[str], seed: int = 0) -> list[list[str]]:
    queries = synthetic.random_words(tf.constant(texts), seed=tf.constant([seed, 0]))
    return [query.decode().split() for query in queries.numpy()]


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
