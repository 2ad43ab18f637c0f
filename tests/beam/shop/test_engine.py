import math

import numpy as np
import pytest

from beam.shop.catalogue import PERIOD, START, Catalogue, make_catalogue
from beam.shop.engine import PAGE, Explorer, LexicalIndex, Pools, draw_pages, make_pools

TITLES = ("Red sofa", "red chair", "blue Sofas pro")


def shares(query: str, rewrites: dict[str, str] | None = None) -> dict[int, float]:
    items, share = LexicalIndex(TITLES, rewrites or {}).match(query)
    return dict(zip(items.tolist(), share.tolist(), strict=True))


def test_an_item_scores_the_share_of_the_querys_idf_that_its_title_has() -> None:
    # Words of two titles and of one.
    pair, single = (
        math.log(1 + 3 / 2),
        math.log(1 + 3 / 1),
    )

    assert shares("red sofa") == pytest.approx({0: 1.0, 1: 0.5, 2: 0.5})
    assert shares("blue sofa") == pytest.approx({0: pair / (pair + single), 2: 1.0})
    assert shares("RED-red sofas") == shares("red sofa")


def test_a_synonym_or_misspelling_is_missed_unless_the_engine_knows_it() -> None:
    assert shares("couch") == {}
    assert shares("soffa") == {}
    # Red is all that it understands.
    assert shares("red couch") == pytest.approx({0: 1.0, 1: 1.0})
    assert shares("red couch", {"couch": "sofa"}) == shares("red sofa")


def test_where_words_find_too_little_the_popular_items_of_the_guessed_type_follow() -> (
    None
):
    catalogue = make_catalogue(np.random.default_rng(0), 600)
    sofa = int(np.argmax([t.noun == "sofa" for t in catalogue.types]))
    index = LexicalIndex(catalogue.title, {})
    pools = make_pools(index, catalogue, ["zzzz"], np.array([sofa]))

    sofas = np.flatnonzero(catalogue.type == sofa)
    by_popularity = sofas[np.argsort(-catalogue.popularity[sofas])]
    assert pools.item[0, : len(sofas)].tolist() == by_popularity.tolist()
    assert (np.diff(pools.score[0]) <= 0).all()


@pytest.mark.parametrize(
    "noun,synonym",
    [("sofa", "couch"), ("backpack", "rucksack"), ("headphones", "headset")],
)
def test_the_engine_finds_a_type_by_its_noun_and_not_by_its_synonym(
    noun: str, synonym: str
) -> None:
    catalogue = make_catalogue(np.random.default_rng(0), 4000)
    wanted = int(np.argmax([t.noun == noun for t in catalogue.types]))
    index = LexicalIndex(catalogue.title, {})
    wrong_guess = np.array([(wanted + 1) % len(catalogue.types)] * 2)
    pools = make_pools(index, catalogue, [noun, synonym], wrong_guess)

    by_noun, by_synonym = (catalogue.type[pools.item[:, :PAGE]] == wanted).mean(axis=1)
    assert by_noun == 1.0
    assert by_synonym < 0.2


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(np.random.default_rng(0), 2000)


def pages_of(
    catalogue: Catalogue, pools: Pools, time: np.ndarray, *, guess: int = 0
) -> np.ndarray:
    zeros = np.zeros(len(time), np.int64)
    return draw_pages(
        np.random.default_rng(1),
        catalogue,
        pools,
        Explorer(catalogue),
        query=zeros,
        guess=zeros + guess,
        time=time,
    )


def test_no_item_is_shown_before_its_launch_or_twice_on_a_page(
    catalogue: Catalogue,
) -> None:
    index = LexicalIndex(catalogue.title, {})
    pools = make_pools(index, catalogue, ["wireless keyboard"], np.array([0]))
    time = START + np.sort(np.random.default_rng(0).integers(0, PERIOD, 3000))
    pages = pages_of(catalogue, pools, time)

    assert pages.shape == (3000, PAGE)
    assert (pages >= 0).all()
    assert (catalogue.launch[pages] <= time[:, None]).all()
    assert (np.diff(np.sort(pages, axis=1), axis=1) > 0).all()


def test_pages_vary_and_explore_items_that_the_words_would_never_find(
    catalogue: Catalogue,
) -> None:
    index = LexicalIndex(catalogue.title, {})
    # Filled up with other things than type 5.
    pools = make_pools(index, catalogue, ["keyboard"], np.array([20]))
    pages = pages_of(catalogue, pools, np.full(2000, START + PERIOD), guess=5)

    explored = ~np.isin(pages, pools.item)
    # three slots explore with probability 0.5, of those that do 80% in the guessed type
    assert 1.2 < explored.sum(axis=1).mean() < 1.5
    assert 0.7 < (catalogue.type[pages[explored]] == 5).mean() < 0.9
    assert len(np.unique(pages[:, 0])) > 5


def test_a_page_that_is_not_full_ends_with_gaps_and_has_none_inside(
    catalogue: Catalogue,
) -> None:
    item = np.full((1, 96), -1, np.int32)
    item[0, :3] = np.flatnonzero(catalogue.launch == START)[:3]
    score = np.where(item >= 0, 1.0, -np.inf).astype(np.float32)
    pages = pages_of(catalogue, Pools(item=item, score=score), np.full(500, START))

    assert ((pages >= 0).sum(axis=1) == 3).all()
    assert (pages[:, 3:] == -1).all()


def test_the_explorer_draws_every_launched_item_of_a_type_and_no_other(
    catalogue: Catalogue,
) -> None:
    middle = START + PERIOD // 2
    drawn = Explorer(catalogue).draw(
        np.random.default_rng(0), np.full(40_000, 3), np.full(40_000, middle)
    )

    launched = catalogue.launch <= middle
    of_type = np.flatnonzero((catalogue.type == 3) & launched)
    assert 0 < len(of_type) < np.count_nonzero(catalogue.type == 3)
    assert launched[drawn].all()
    assert set(of_type.tolist()) <= set(drawn.tolist())
    assert np.isin(drawn, of_type).mean() == pytest.approx(
        0.8 + 0.2 * len(of_type) / launched.sum(), abs=0.01
    )
