"""Queries made from the catalogue: a few random words of an item's text, to which the item is the answer.

They teach the towers what an item is called before anybody searched for it, and go on doing so for the items that
nobody clicks. On a shop's first day they are all there is to learn from. Making queries out of documents to train a
retriever is common since the "inverse cloze task" (Lee et al., ACL 2019); drawing the words at random is its plainest
form.
"""

import tensorflow as tf

from tfrs_mmse import schema, text
from tfrs_mmse.features import Featurizer
from tfrs_mmse.records import Catalogue, Requests

MIN_WORDS, MAX_WORDS = 1, 4  # of a query
_MAX_TEXT_WORDS = 64  # of a text, from its beginning, that words are drawn from


def requests(
    catalogue: Catalogue, featurizer: Featurizer, *, seed: tf.Tensor
) -> Requests:
    """One request for each item, made from its title or from all of its text; the item counts as clicked.

    Args:
        catalogue: N items.
        featurizer: Looks the words up.
        seed: [2] int; equal seeds draw alike.
    """
    field_seed, word_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, num=2)
    )
    texts = either(catalogue.title, catalogue.text, seed=field_seed)
    items = catalogue.items
    return Requests(
        query_ids=featurizer.query(random_words(texts, seed=word_seed)),
        positive_key=tf.RaggedTensor.from_uniform_row_length(items.key, 1),
        items=items,
        request=tf.range(tf.size(items.key, tf.int64)),
        level=tf.fill(tf.shape(items.key), int(schema.Level.CLICKED)),
        position=tf.fill(tf.shape(items.key), -1),
    )


def random_words(texts: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """From 1 to 4 words of each text, drawn without replacement, in the order of the text.

    Args:
        texts: [N] raw strings.
        seed: [2] int; equal seeds draw alike.

    Returns:
        [N] folded strings; `""` where a text has no word.
    """
    words = text.words(text.fold(texts), max_words=_MAX_TEXT_WORDS)
    word_seed, number_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, num=2)
    )
    number = tf.random.stateless_uniform(
        [words.nrows()], number_seed, MIN_WORDS, MAX_WORDS + 1, tf.int64
    )
    lot = tf.random.stateless_uniform(tf.shape(words.flat_values), word_seed)
    # A word is drawn if fewer than `number` of its text have a smaller lot.
    rank = _rank_in_row(words.with_values(lot))
    drawn = rank < tf.gather(number, words.value_rowids())
    chosen = tf.ragged.boolean_mask(words, words.with_values(drawn))
    return tf.strings.reduce_join(chosen, axis=1, separator=" ")


def either(first: tf.Tensor, second: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Each row from `first` or from `second`, by an even chance: [N], [N] -> [N] strings."""
    coin = tf.random.stateless_uniform(tf.shape(first), seed)
    return tf.where(coin < 0.5, first, second)


def _rank_in_row(values: tf.RaggedTensor) -> tf.Tensor:
    """How many values of the same row are smaller: [N, (T)] -> [sum of T] int64."""
    row = values.value_rowids()
    lots = tf.cast(values.flat_values, tf.float64)  # of at least 0 and below 1
    order = tf.argsort(tf.cast(row, tf.float64) + lots)
    place = tf.cast(tf.argsort(order), tf.int64)
    # Sorted, each row stands where it stood before.
    return place - tf.gather(values.row_starts(), row)
