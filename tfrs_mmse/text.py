"""From text to tokens, in TensorFlow ops only.

Beam calls these functions on batches, and the same functions are traced into the serving signatures, so training and
serving cannot disagree. All take and give UTF-8 string tensors.
"""

import tensorflow as tf
import tensorflow_text as tf_text

from tfrs_mmse import schema

# Letters that Unicode does not decompose, by the plain letters that people type instead.
_LETTERS = {"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe"}
# In these scripts a combining mark is an accent that people leave out when they type a query; in most others
# (Japanese voicing, Indic and Thai vowels) it carries the word. Arabic and Hebrew write short vowels as optional marks.
_ACCENTS = r"([\p{Latin}\p{Greek}\p{Cyrillic}])\p{M}+"
_OPTIONAL_VOWELS = (
    r"[\x{0591}-\x{05BD}\x{05BF}-\x{05C7}\x{0640}\x{064B}-\x{0652}\x{0670}]"
)
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}ー])"  # scripts without spaces whose single characters mean something
_NOT_WORD = r"[^\p{L}\p{N}\p{M}]+"


def fold(text: tf.Tensor) -> tf.Tensor:
    """Folds what people type differently and mean alike: compatibility forms, case, accents.

    NFKC case folding, then marks dropped where they are accents, then NFKC again. `Ação` and `ACAO` become `acao`,
    `Straße` becomes `strasse`, `İ`, `I` and `ı` become `i`; `й`, `が` and `ไม้` keep their marks.

    Args:
        text: [...] strings of valid UTF-8.

    Returns:
        [...] strings.
    """
    text = tf_text.case_fold_utf8(text)
    # The letter й is not и with an accent: it is set aside.
    text = tf.strings.regex_replace(text, "\u0439", "\ue000")
    text = tf_text.normalize_utf8(text, "NFKD")
    text = tf.strings.regex_replace(text, _ACCENTS, r"\1")
    text = tf.strings.regex_replace(text, _OPTIONAL_VOWELS, "")
    text = tf.strings.regex_replace(text, "\ue000", "\u0439")
    for letter, plain in _LETTERS.items():
        text = tf.strings.regex_replace(text, letter, plain)
    return tf_text.normalize_utf8(text, "NFKC")


def folded_key(text: tf.Tensor) -> tf.Tensor:
    """Folds and squeezes white space: two queries, or two names of a category, with one key are the same.

    Args:
        text: [...] strings of valid UTF-8.

    Returns:
        [...] strings.
    """
    return tf.strings.strip(tf.strings.regex_replace(fold(text), r"[\p{Z}\p{C}]+", " "))


def words(folded: tf.Tensor, *, max_words: int) -> tf.RaggedTensor:
    """Splits folded text into runs of letters, digits and marks; Chinese and Japanese into single characters.

    Emoji, punctuation and symbols separate words and are no words themselves.

    Args:
        folded: [B] folded strings.
        max_words: Words kept of each string, from its beginning.

    Returns:
        [B, (words)] strings.
    """
    spaced = tf.strings.regex_replace(folded, _UNSPACED, r" \1 ")
    spaced = tf.strings.regex_replace(spaced, _NOT_WORD, " ")
    return tf.strings.split(spaced)[:, :max_words]


def bigrams(tokens: tf.RaggedTensor) -> tf.RaggedTensor:
    """Pairs of neighbouring words, joined by a space: [B, (words)] -> [B, (max(words - 1, 0))]."""
    return tf.strings.ngrams(tokens, 2, separator=" ")


def characters(folded: tf.Tensor, *, max_words: int) -> tf.RaggedTensor:
    """Trigrams of the letters of each run between two `_`: `nuts` gives `_nu nut uts ts_`, and `a` gives `_a_`.

    A run is a word, but of Chinese or Japanese all that stands together: their single characters are words already.

    Args:
        folded: [B] folded strings.
        max_words: Runs of each string that are used, from its beginning, and letters of each run.

    Returns:
        [B, (trigrams)] strings, those of all runs one after the other.
    """
    spaced = tf.strings.regex_replace(folded, _NOT_WORD, " ")
    runs = tf.strings.split(spaced)[:, :max_words]
    # Texts have most of their words in common, and splitting into letters is slow: each word is split once.
    distinct, index = tf.unique(runs.flat_values)
    bounded = tf.strings.join(
        ["_", tf.strings.substr(distinct, 0, max_words, unit="UTF8_CHAR"), "_"]
    )
    letters = tf.strings.unicode_split(bounded, "UTF-8")
    trigrams = tf.gather(tf.strings.ngrams(letters, 3, separator=""), index)
    return runs.with_flat_values(trigrams).merge_dims(1, 2)


def text_grains(folded: tf.Tensor, *, max_words: int) -> dict[str, tf.RaggedTensor]:
    """Tokens of every text grain of `schema.TEXT_GRAINS`, from folded strings [B]: each [B, (tokens)] strings."""
    tokens = words(folded, max_words=max_words)
    return {
        "word": tokens,
        "bigram": bigrams(tokens),
        "character": characters(folded, max_words=max_words),
    }


def check_queries(query: tf.Tensor) -> tf.Tensor:
    """The queries as they came, once each of them is known to be one that can be answered.

    Args:
        query: [B] strings.

    Returns:
        The same strings.

    Raises:
        tf.errors.InvalidArgumentError: (in a graph: when it runs) a query is not UTF-8, is longer than
            `schema.MAX_QUERY_BYTES`, or holds neither a letter nor a digit.
    """
    longest = tf.reduce_max(tf.concat([[0], tf.strings.length(query)], axis=0))
    tf.debugging.assert_less_equal(
        longest,
        schema.MAX_QUERY_BYTES,
        message=f"query must be at most {schema.MAX_QUERY_BYTES} bytes long",
    )
    # Strict transcoding fails on bytes that are not UTF-8, with INVALID_ARGUMENT, as TensorFlow Serving answers.
    query = tf.strings.unicode_transcode(query, "UTF-8", "UTF-8", errors="strict")
    has_word = tf.strings.regex_full_match(query, r"(?s).*[\p{L}\p{N}].*")
    tf.debugging.assert_equal(
        has_word, True, message="query must hold at least one letter or digit"
    )
    return query
