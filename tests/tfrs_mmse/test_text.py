import pytest
import tensorflow as tf

from tfrs_mmse import schema, text


def fold(value: str) -> str:
    return text.fold(tf.constant([value])).numpy()[0].decode()


def words(value: str, max_words: int = 100) -> list[str]:
    return [
        w.decode()
        for w in text.words(
            text.fold(tf.constant([value])), max_words=max_words
        ).to_list()[0]
    ]


def characters(folded: str, max_words: int = 100) -> list[str]:
    trigrams = text.characters(tf.constant([folded]), max_words=max_words)
    return [trigram.decode() for trigram in trigrams.to_list()[0]]


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        ("Decoração À Mão", "decoracao a mao"),  # Portuguese
        ("STRASSE Straße Äpfel", "strasse strasse apfel"),  # German
        # Turkish: dotted and dotless i.
        (
            "İSTANBUL ISPARTA ışık",
            "istanbul isparta isik",
        ),
        ("Smørrebrød Łódź Œuvre", "smorrebrod lodz oeuvre"),
        ("ΑΘΉΝΑ Ἀθῆναι", "αθηνα αθηναι"),
        ("Ёлка ЙОД", "елка йод"),  # й is a letter, ё is е with an accent
        ("中文 ＡＢＣ①", "中文 abc1"),  # full-width and enclosed forms
        ("ガｶﾞ", "ガガ"),  # Japanese voicing carries the word
        ("한국어", "한국어"),
        ("ไม้", "ไม้"),
        ("हिन्दी", "हिन्दी"),
        ("عَرَبِيّ", "عربي"),
        ("ﬁn", "fin"),
    ],
)
def test_fold_merges_what_people_type_alike(raw: str, folded: str):
    assert fold(raw) == folded


@pytest.mark.parametrize(
    "raw", ["Decoração", "İstanbul", "Ёлка йод", "ガ", "Straße", "한국어", "ไม้"]
)
def test_folding_twice_changes_nothing(raw: str):
    assert fold(fold(raw)) == fold(raw)


def test_decomposed_and_composed_letters_fold_alike():
    assert fold("e\u0301 и\u0306 か\u3099") == fold("\u00e9 й が")


def test_queries_that_differ_in_white_space_and_case_have_one_key() -> None:
    raw = ["  Ação\u00a0 JÁ\t", "acao ja", "acao\u2028ja", "acaoja"]
    keys = [key.decode() for key in text.folded_key(tf.constant(raw)).numpy()]
    assert keys == ["acao ja", "acao ja", "acao ja", "acaoja"]


def test_words_are_runs_of_letters_and_digits():
    assert words("T-shirt 100% algodão, 2x50ml") == [
        "t",
        "shirt",
        "100",
        "algodao",
        "2x50ml",
    ]


def test_emoji_separate_words_and_are_none():
    assert words("feliz🎄natal ❤️") == ["feliz", "natal"]
    assert words("🎄❤️") == []


def test_chinese_and_japanese_split_into_characters():
    assert words("红色连衣裙 コーヒー x2") == [*"红色连衣裙コーヒー", "x2"]


def test_words_are_cut_from_the_end():
    assert words("a b c d", max_words=2) == ["a", "b"]


def test_grains_of_a_short_text():
    tokens = text.text_grains(tf.constant(["nut oil", "a", ""]), max_words=9)
    grains = {name: ragged.to_list() for name, ragged in tokens.items()}
    assert tuple(grains) == schema.TEXT_GRAINS
    assert grains["word"] == [[b"nut", b"oil"], [b"a"], []]
    assert grains["bigram"] == [[b"nut oil"], [], []]
    assert grains["character"] == [
        [b"_nu", b"nut", b"ut_", b"_oi", b"oil", b"il_"],
        [b"_a_"],
        [],
    ]


def test_character_trigrams_count_letters_not_bytes():
    assert characters("çã") == ["_çã", "çã_"]


def test_character_trigrams_run_across_the_words_of_unspaced_scripts():
    assert characters("防水ケース x2") == [
        *("_防水", "防水ケ", "水ケー", "ケース", "ース_"),
        *("_x2", "x2_"),
    ]


def test_character_trigrams_are_of_the_first_runs_and_their_first_letters():
    assert characters("abcd e f", max_words=2) == ["_ab", "ab_", "_e_"]


def test_batching_does_not_change_tokens():
    texts = ["caneca azul", "", "红色", "a b c"]
    together = text.words(text.fold(tf.constant(texts)), max_words=9).to_list()
    alone = [
        text.words(text.fold(tf.constant([t])), max_words=9).to_list()[0] for t in texts
    ]
    assert together == alone


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "query must hold at least one letter or digit"),
        (" \t", "query must hold at least one letter or digit"),
        ("🎄❤️", "query must hold at least one letter or digit"),
        ("x" * (schema.MAX_QUERY_BYTES + 1), "query must be at most 1024 bytes long"),
        (b"caf\xe9", "Invalid formatting"),
    ],
)
@pytest.mark.parametrize("in_graph", [False, True])
def test_a_query_that_cannot_be_answered_is_an_invalid_argument(
    query: str, message: str, in_graph: bool
):
    check = tf.function(text.check_queries) if in_graph else text.check_queries
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        check(tf.constant(["good", query]))


def test_good_queries_pass_unchanged():
    queries = ["caneca 🎄", "7", "红", "x" * schema.MAX_QUERY_BYTES]
    assert text.check_queries(tf.constant(queries)).numpy().tolist() == [
        q.encode() for q in queries
    ]
    assert text.check_queries(tf.constant([], tf.string)).shape == [0]
