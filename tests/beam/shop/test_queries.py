import numpy as np
import pytest

from beam.shop import vocabulary
from beam.shop.catalogue import START, Catalogue, make_catalogue
from beam.shop.queries import (
    Intents,
    Queries,
    draw_query,
    make_intents,
    make_queries,
    misspell,
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(np.random.default_rng(0), 1000)


@pytest.fixture(scope="module")
def intents(catalogue: Catalogue) -> Intents:
    return make_intents(np.random.default_rng(1), catalogue, 600)


@pytest.fixture(scope="module")
def queries(catalogue: Catalogue, intents: Intents) -> Queries:
    return make_queries(np.random.default_rng(2), catalogue, intents)


def test_every_intent_is_another_one_and_some_item_satisfies_it(
    catalogue: Catalogue, intents: Intents
) -> None:
    assert len(intents) == 600
    columns = (
        intents.type.tolist(),
        intents.price_wish.tolist(),
        intents.wanted.tolist(),
    )
    assert len({(t, w, *row) for t, w, row in zip(*columns, strict=True)}) == 600
    for type_, wanted in zip(intents.type, intents.wanted, strict=True):
        meets = ((catalogue.slots == wanted) | (wanted < 0)).all(axis=1) & (
            catalogue.type == type_
        )
        assert meets.any()


def test_frequent_intents_are_broader_than_rare_ones(intents: Intents) -> None:
    constraints = (intents.wanted >= 0).sum(axis=1)
    assert constraints[:60].mean() < constraints[-60:].mean() - 1
    assert (np.diff(intents.weight) < 0).all()


def test_some_intents_come_up_late_but_never_the_first(intents: Intents) -> None:
    assert intents.birth[0] == START
    assert 0.05 < (intents.birth > START).mean() < 0.5


def test_all_strings_differ_and_each_intent_has_its_own_stretch(
    queries: Queries, intents: Intents
) -> None:
    assert len(set(queries.text)) == len(queries.text)
    assert (np.diff(queries.first) >= 1).all()
    for index in (0, 1, 599):
        assert set(
            queries.intent[queries.first[index] : queries.first[index + 1]].tolist()
        ) == {index}
    assert queries.first[-1] == len(queries.text)
    # Frequent intents are put in more ways.
    assert queries.first[1] > np.diff(queries.first)[-100:].mean()


def test_a_string_belongs_to_the_intent_that_took_it_first_and_the_others_get_one_with_a_number(
    catalogue: Catalogue,
) -> None:
    """A hundred intents that are all the same soon run out of words."""
    hundred = {
        "type": np.int32(7),
        "wanted": np.full(6, -1, np.int32),
        "price_wish": 0,
        "birth": START,
        "weight": 1.0,
    }
    intents = Intents(
        **{name: np.array([value] * 100) for name, value in hundred.items()}
    )
    queries = make_queries(np.random.default_rng(0), catalogue, intents)

    assert len(set(queries.text)) == len(queries.text)
    assert (np.diff(queries.first) >= 1).all()
    assert queries.text[-1].endswith(" 99")


def test_queries_use_synonyms_nicknames_misspellings_and_price_words(
    catalogue: Catalogue, queries: Queries
) -> None:
    used = {word for text in queries.text for word in text.split()}
    assert {"couch", "rucksack", "tee", "bluetooth"} & used
    assert {brand.nickname for brand in catalogue.brands} & used
    assert queries.misspelled.keys() & used
    assert {"cheap", "affordable", "luxury", "premium"} <= used


def test_the_first_string_of_most_intents_names_what_is_wanted_as_titles_do(
    catalogue: Catalogue, intents: Intents, queries: Queries
) -> None:
    color = vocabulary.SLOTS.index("color")
    named = []
    for index in np.flatnonzero(intents.wanted[:, color] >= 0):
        text = queries.text[queries.first[index]]
        named.append(
            catalogue.values[color][intents.wanted[index, color]] in text.split()
        )
    assert np.mean(named) > 0.8


def test_a_misspelling_is_one_slip_after_the_first_letter() -> None:
    rng = np.random.default_rng(0)
    wrong = {misspell(rng, "couch") for _ in range(300)}
    left_out = {"cuch", "coch", "couh"}
    doubled = {"coouch", "couuch", "coucch"}
    swapped = {"cuoch", "cocuh", "couhc"}
    assert wrong == left_out | doubled | swapped


def test_an_intent_is_put_in_its_own_strings_the_first_most_often() -> None:
    queries = Queries(
        text=tuple("abcde"),
        intent=np.array([0, 0, 0, 1, 1]),
        first=np.array([0, 3, 5]),
        misspelled={},
    )
    drawn = draw_query(np.random.default_rng(0), queries, np.repeat([0, 1], 30_000))

    of_first, of_second = (
        np.bincount(drawn[:30_000], minlength=5),
        np.bincount(drawn[30_000:], minlength=5),
    )
    total = 1 + 2**-1.2 + 3**-1.2
    np.testing.assert_allclose(
        of_first / 30_000,
        [1 / total, 2**-1.2 / total, 3**-1.2 / total, 0, 0],
        atol=0.015,
    )
    total = 1 + 2**-1.2
    np.testing.assert_allclose(
        of_second / 30_000, [0, 0, 0, 1 / total, 2**-1.2 / total], atol=0.015
    )
