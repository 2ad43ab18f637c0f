import dataclasses

import numpy as np
import pytest

from beam.shop.simulation import (
    LATE_WINDOW,
    Events,
    Kind,
    Shop,
    late_delays,
    open_shop,
    simulate,
)
from beam.shop.truth import best_items

NUM_REQUESTS, NUM_ITEMS = 10_000, 3000


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop(num_requests=NUM_REQUESTS, num_items=NUM_ITEMS, seed=0)


@pytest.fixture(scope="module")
def events(shop: Shop) -> Events:
    chunks = list(simulate(shop))
    assert len(chunks) == 3  # so that what follows holds across chunks
    return Events(
        **{
            f.name: np.concatenate([getattr(c, f.name) for c in chunks])
            for f in dataclasses.fields(Events)
        }
    )


def of(events: Events, kind: Kind) -> Events:
    return events.select(events.kind == kind)


def rows(*columns: np.ndarray) -> set[tuple[int, ...]]:
    return set(zip(*(column.tolist() for column in columns), strict=True))


def test_events_come_in_the_order_of_time(events: Events) -> None:
    assert (np.diff(events.time) >= 0).all()


def test_every_request_shows_a_page_of_items_launched_by_then(
    shop: Shop, events: Events
) -> None:
    shown = of(events, Kind.IMPRESSION)
    assert (np.bincount(shown.request) == 24).all()
    assert (
        len(rows(shown.request, shown.position))
        == len(rows(shown.request, shown.item))
        == 24 * NUM_REQUESTS
    )
    assert (shop.catalogue.launch[shown.item] <= shown.time).all()
    assert (shown.time == shop.requests.time[shown.request]).all()


def test_clicks_happen_on_what_was_shown_and_after_that(
    shop: Shop, events: Events
) -> None:
    shown, clicks = of(events, Kind.IMPRESSION), of(events, Kind.CLICK)
    seen = rows(shown.request, shown.item, shown.position, shown.user, shown.query)
    assert (
        rows(clicks.request, clicks.item, clicks.position, clicks.user, clicks.query)
        <= seen
    )
    assert (clicks.time > shop.requests.time[clicks.request]).all()


def test_orders_follow_a_click_of_the_same_user_on_the_item_within_the_window(
    events: Events,
) -> None:
    clicks, orders = of(events, Kind.CLICK), of(events, Kind.ORDER)
    clicked_at: dict[tuple[int, int], list[int]] = {}
    for user, item, time in zip(
        clicks.user.tolist(), clicks.item.tolist(), clicks.time.tolist(), strict=True
    ):
        clicked_at.setdefault((user, item), []).append(time)
    for user, item, time in zip(
        orders.user.tolist(), orders.item.tolist(), orders.time.tolist(), strict=True
    ):
        assert any(0 < time - at < LATE_WINDOW for at in clicked_at[user, item])

    named = orders.select(orders.request >= 0)
    assert rows(named.request, named.item) <= rows(clicks.request, clicks.item)


def test_every_fifth_order_names_no_request(events: Events) -> None:
    orders = of(events, Kind.ORDER)
    assert len(orders) > 500
    assert (orders.request < 0).mean() == pytest.approx(0.2, abs=0.05)
    assert ((orders.request < 0) == (orders.query < 0)).all()


def test_late_orders_come_hours_later_and_within_the_window() -> None:
    delays = late_delays(np.random.default_rng(0), 100_000)
    assert delays.min() >= 900
    assert delays.max() < LATE_WINDOW == 24 * 3600
    assert np.median(delays) == pytest.approx(900 + 5 * 3600 * np.log(2), rel=0.02)


def test_nobody_orders_an_item_twice(events: Events) -> None:
    orders = of(events, Kind.ORDER)
    assert len(rows(orders.user, orders.item)) == len(orders)


def test_position_biases_clicks_beyond_relevance(shop: Shop, events: Events) -> None:
    """Clicks by position over those that the utilities promise if all were examined: that is, examination."""
    shown, clicks = of(events, Kind.IMPRESSION), of(events, Kind.CLICK)
    utility, _ = shop.market.mean_utilities(
        shop.requests.intent[shown.request], shown.item
    )
    examined = np.bincount(clicks.position) / np.bincount(shown.position, utility)

    assert examined[0] == pytest.approx(1.0, abs=0.08)
    assert examined[6] == pytest.approx(0.6, abs=0.12)
    assert examined[20:].mean() < 0.35


def test_requests_come_to_clicks_and_some_to_orders(events: Events) -> None:
    clicks, orders = of(events, Kind.CLICK), of(events, Kind.ORDER)
    assert 0.4 < len(np.unique(clicks.request)) / NUM_REQUESTS < 0.7
    assert 0.05 < len(orders) / len(clicks) < 0.2


def test_the_best_ranking_for_clicks_is_not_the_best_one_for_orders() -> None:
    """In a shop of the usual size: the fewer items there are to choose from, the less the two can differ."""
    shop = open_shop(num_requests=2000, num_items=10_000, seed=0)
    overlap, kept = [], []
    for intent in range(len(shop.intents)):
        _, click, order = best_items(shop, intent)
        by_click, by_order = np.argsort(-click)[:10], np.argsort(-order)[:10]
        overlap.append(len(np.intersect1d(by_click, by_order)) / 10)
        kept.append(order[by_click].sum() / order[by_order].sum())
    assert 0.15 < np.mean(overlap) < 0.7
    # Who ranks for clicks loses a fifth of the orders and more.
    assert np.mean(kept) < 0.8


def test_new_queries_and_new_items_turn_up_all_along(
    shop: Shop, events: Events
) -> None:
    late = shop.requests.time > np.quantile(shop.requests.time, 0.8)
    asked_before = np.unique(shop.requests.query[~late])
    assert (
        0.1
        < (~np.isin(np.unique(shop.requests.query[late]), asked_before)).mean()
        < 0.7
    )
    clicks = of(events, Kind.CLICK)
    assert (shop.catalogue.launch[clicks.item] > shop.catalogue.launch.min()).any()


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    def first_chunk(seed: int) -> Events:
        return next(simulate(open_shop(num_requests=200, num_items=100, seed=seed)))

    one, same, other = first_chunk(1), first_chunk(1), first_chunk(2)
    for field in dataclasses.fields(Events):
        np.testing.assert_array_equal(
            getattr(one, field.name), getattr(same, field.name)
        )
    assert one.item.tolist() != other.item.tolist()
