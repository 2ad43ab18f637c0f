import math
from typing import Any

import numpy as np
import pytest

from beam.shop import vocabulary
from beam.shop.behaviour import (
    THRIFT,
    THRIFT_SHARE,
    Coefficients,
    Market,
    Utilities,
    browse,
)
from beam.shop.catalogue import START, Catalogue
from beam.shop.queries import Intents
from beam.shop.taxonomy import product_types

COLOR, MATERIAL = vocabulary.SLOTS.index("color"), vocabulary.SLOTS.index("material")
NOUNS = [t.noun for t in product_types()]
# With these, sigmoid(attraction) of a plain item is 1/4 and sigmoid(worth) is 1/5.
QUARTER, FIFTH = -math.log(3), -math.log(4)
COEFFICIENTS = Coefficients(
    same_category=0.2,
    elsewhere=0.01,
    rho_click=0.5,
    rho_order=0.1,
    a_0=QUARTER,
    a_fame=math.log(3),
    a_loud=math.log(9),
    a_look=math.log(2),
    a_price=1.0,
    a_wish=0.5,
    s_0=FIFTH,
    s_quality=math.log(4),
    s_price=2.0,
    s_wish=1.0,
)


def plain_item(noun: str = "sofa", **changes: Any) -> Catalogue:
    """A catalogue of one item: no attributes, the usual price, nothing special."""
    columns = {
        "type": np.array([NOUNS.index(noun)]),
        "slots": np.full((1, len(vocabulary.SLOTS)), -1),
        "written": np.zeros((1, len(vocabulary.SLOTS)), bool),
        "launch": np.array([START]),
    }
    names = ("price", "price_level", "quality", "fame", "loud", "look", "popularity")
    columns |= {name: np.array([float(changes.get(name, 0.0))]) for name in names}
    columns |= {
        name: np.array([value])
        for name, value in changes.items()
        if name in ("slots", "written")
    }
    return Catalogue(
        types=product_types(),
        brands=(),
        values=(),
        item_id=("i",),
        title=("",),
        description=("",),
        **columns,
    )


def intent(noun: str = "sofa", *, price_wish: int = 0, **wanted: int) -> Intents:
    slots = [wanted.get(name, -1) for name in vocabulary.SLOTS]
    return Intents(
        type=np.array([NOUNS.index(noun)]),
        wanted=np.array([slots]),
        price_wish=np.array([price_wish]),
        birth=np.array([START]),
        weight=np.array([1.0]),
    )


def utilities(
    item: Catalogue, wants: Intents, *, thrift: float = 0.0
) -> tuple[float, float]:
    zero = np.array([0])
    u = Market(item, wants, COEFFICIENTS).utilities(zero, zero, np.array([thrift]))
    return float(u.click[0]), float(u.order_after_click[0])


def slots(**values: int) -> list[int]:
    return [values.get(name, -1) for name in vocabulary.SLOTS]


def test_a_plain_item_of_the_wanted_type_has_the_base_probabilities() -> None:
    assert utilities(plain_item(), intent()) == pytest.approx((1 / 4, 1 / 5))


def test_the_same_category_and_other_items_are_worth_the_factor_g() -> None:
    assert utilities(plain_item("armchair"), intent("sofa")) == pytest.approx(
        (0.2 / 4, 0.2 / 5)
    )
    assert utilities(plain_item("drill"), intent("sofa")) == pytest.approx(
        (0.01 / 4, 0.01 / 5)
    )


def test_fame_loud_words_and_pictures_earn_clicks_and_no_orders() -> None:
    # Odds 1/3 * 3.
    assert utilities(plain_item(fame=1.0), intent()) == pytest.approx((1 / 2, 1 / 5))
    # Odds 1/3 * 9.
    assert utilities(plain_item(loud=1.0), intent()) == pytest.approx((3 / 4, 1 / 5))
    # Odds 1/3 * 2.
    assert utilities(plain_item(look=1.0), intent()) == pytest.approx((2 / 5, 1 / 5))


def test_quality_earns_orders_and_no_clicks() -> None:
    # Odds 1/4 * 4.
    assert utilities(plain_item(quality=1.0), intent()) == pytest.approx((1 / 4, 1 / 2))


def test_an_unmet_wish_costs_clicks_and_more_orders() -> None:
    wants = intent(color=3, material=2)
    red_wool = plain_item(slots=slots(color=3, material=2), written=[True] * 6)
    red = plain_item(slots=slots(color=3, material=1), written=[True] * 6)
    neither = plain_item(slots=slots(color=1, material=1), written=[True] * 6)

    assert utilities(red_wool, wants) == pytest.approx((1 / 4, 1 / 5))
    assert utilities(red, wants) == pytest.approx((0.5 / 4, 0.1 / 5))
    assert utilities(neither, wants) == pytest.approx((0.25 / 4, 0.01 / 5))


def test_another_brand_than_the_wanted_counts_twice() -> None:
    other_brand = plain_item(slots=slots(brand=1), written=[True] * 6)
    assert utilities(other_brand, intent(brand=0)) == pytest.approx(
        (0.5**2 / 4, 0.1**2 / 5)
    )


def test_a_wish_met_but_not_written_in_the_title_costs_clicks_only() -> None:
    unwritten = plain_item(slots=slots(color=3), written=[False] * 6)
    assert utilities(unwritten, intent(color=3)) == pytest.approx((0.5 / 4, 1 / 5))


def test_price_repels_by_thrift_and_by_what_the_query_says() -> None:
    dear = plain_item(price_level=math.log(2))  # twice the median
    # odds of the click: 1/3 * 2^-(1 + 0.5 w); of the order: 1/4 * 2^-(2 + w), with w = thrift - price_wish

    def expected(w: float) -> tuple[float, float]:
        click, order = 2 ** -(1 + 0.5 * w) / 3, 2 ** -(2 + w) / 4
        return click / (1 + click), order / (1 + order)

    assert utilities(dear, intent()) == pytest.approx((1 / 7, 1 / 17))
    assert utilities(dear, intent()) == pytest.approx(expected(0))
    assert utilities(dear, intent(), thrift=1.0) == pytest.approx(expected(1))
    assert utilities(dear, intent(price_wish=-1), thrift=1.0) == pytest.approx(
        expected(2)
    )
    assert utilities(dear, intent(price_wish=1)) == pytest.approx(expected(-1))


def test_mean_utilities_weigh_users_by_their_shares_and_an_order_needs_a_click() -> (
    None
):
    item, wants = plain_item(price_level=0.7, quality=0.3), intent()
    click, order = Market(item, wants, COEFFICIENTS).mean_utilities(
        np.array([0]), np.array([0])
    )

    each = [utilities(item, wants, thrift=thrift) for thrift in THRIFT]
    assert sum(THRIFT_SHARE) == pytest.approx(1.0)
    assert click[0] == pytest.approx(
        sum(share * a for share, (a, _) in zip(THRIFT_SHARE, each, strict=True))
    )
    assert order[0] == pytest.approx(
        sum(share * a * s for share, (a, s) in zip(THRIFT_SHARE, each, strict=True))
    )


def page(click: list[float], order: list[float], *, users: int = 1) -> Utilities:
    return Utilities(
        click=np.tile(click, (users, 1)), order_after_click=np.tile(order, (users, 1))
    )


def test_users_look_on_after_clicks_and_stop_at_an_order() -> None:
    rng = np.random.default_rng(0)
    clicked, ordered = browse(
        rng, page([1, 0, 1, 1], [0, 1, 1, 1]), np.array([1.0]), kappa=0.0
    )
    assert clicked.tolist() == [[True, False, True, False]]
    assert ordered.tolist() == [[False, False, True, False]]


def test_with_kappa_1_users_go_on_after_an_order() -> None:
    clicked, ordered = browse(
        np.random.default_rng(0), page([1, 1], [1, 1]), np.array([1.0]), kappa=1.0
    )
    assert clicked.tolist() == ordered.tolist() == [[True, True]]


def test_without_patience_only_the_first_item_is_looked_at() -> None:
    clicked, _ = browse(
        np.random.default_rng(0), page([1, 1, 1], [0, 0, 0]), np.array([0.0])
    )
    assert clicked.tolist() == [[True, False, False]]


def test_examination_falls_with_the_power_of_patience() -> None:
    users, gamma = 100_000, 0.8
    clicked, ordered = browse(
        np.random.default_rng(0),
        page([0.5] * 4, [0.0] * 4, users=users),
        np.full(users, gamma),
    )
    np.testing.assert_allclose(
        clicked.mean(axis=0), [0.5, 0.5 * 0.8, 0.5 * 0.64, 0.5 * 0.512], atol=0.006
    )
    assert not ordered.any()


def test_an_order_at_the_top_hides_what_is_below() -> None:
    users = 100_000
    clicked, ordered = browse(
        np.random.default_rng(0),
        page([0.5, 0.5], [0.4, 0.0], users=users),
        np.full(users, 0.9),
        kappa=0.25,
    )
    # P(O_0) = 0.5 * 0.4 = 0.2; P(E_1) = 0.9 * (0.8 + 0.2 * 0.25) = 0.765
    np.testing.assert_allclose(ordered.mean(axis=0), [0.2, 0.0], atol=0.006)
    np.testing.assert_allclose(clicked.mean(axis=0), [0.5, 0.5 * 0.765], atol=0.006)


def test_orders_are_clicks() -> None:
    rng = np.random.default_rng(0)
    u = Utilities(click=rng.random((500, 24)), order_after_click=rng.random((500, 24)))
    clicked, ordered = browse(rng, u, rng.random(500))
    assert not (ordered & ~clicked).any()
