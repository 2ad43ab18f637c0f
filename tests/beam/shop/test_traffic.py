import numpy as np
import pytest

from beam.shop.behaviour import THRIFT
from beam.shop.catalogue import PERIOD, START, make_catalogue
from beam.shop.queries import Intents, Queries, make_intents, make_queries
from beam.shop.traffic import Requests, Users, draw_intents, make_requests, make_users


@pytest.fixture(scope="module")
def shop() -> tuple[Users, Intents, Queries, Requests]:
    rng = np.random.default_rng(0)
    catalogue = make_catalogue(rng, 500)
    intents = make_intents(rng, catalogue, 300)
    queries = make_queries(rng, catalogue, intents)
    users = make_users(rng, 6000)
    return (
        users,
        intents,
        queries,
        make_requests(rng, 6000, users=users, intents=intents, queries=queries),
    )


@pytest.mark.parametrize("num_requests", [1, 2, 7, 500])
def test_there_are_exactly_as_many_requests_as_asked_for(
    shop: tuple[Users, Intents, Queries, Requests], num_requests: int
) -> None:
    users, intents, queries, _ = shop
    rng = np.random.default_rng(1)
    requests = make_requests(
        rng, num_requests, users=users, intents=intents, queries=queries
    )
    assert {
        len(c) for c in (requests.time, requests.user, requests.intent, requests.query)
    } == {num_requests}


def test_requests_come_in_order_within_the_period(
    shop: tuple[Users, Intents, Queries, Requests],
) -> None:
    requests = shop[-1]
    assert (np.diff(requests.time) >= 0).all()
    assert requests.time[0] >= START
    assert requests.time[-1] < START + PERIOD + 3600  # the last session may run over


def test_a_request_types_a_string_of_its_intent(
    shop: tuple[Users, Intents, Queries, Requests],
) -> None:
    _, _, queries, requests = shop
    assert (queries.intent[requests.query] == requests.intent).all()


def test_nobody_wants_what_has_not_come_up_yet(
    shop: tuple[Users, Intents, Queries, Requests],
) -> None:
    _, intents, _, requests = shop
    assert (intents.birth[requests.intent] <= requests.time).all()
    assert (intents.birth[requests.intent] > START).any()  # and new ones do come up


def test_users_have_histories_of_related_requests(
    shop: tuple[Users, Intents, Queries, Requests],
) -> None:
    requests = shop[-1]
    order = np.lexsort((np.arange(6000), requests.user))
    user, intent = requests.user[order], requests.intent[order]
    same_user = user[1:] == user[:-1]
    same_intent = intent[1:] == intent[:-1]
    assert np.bincount(user).max() > 20
    # Rewordings within a session, sessions that resume the last one.
    assert same_intent[same_user].mean() > 0.4
    assert same_intent[~same_user].mean() < 0.1


def test_frequency_runs_from_head_to_tail(
    shop: tuple[Users, Intents, Queries, Requests],
) -> None:
    counts = np.sort(np.bincount(shop[-1].query))[::-1]
    counts = counts[counts > 0]
    # One query of a hundred makes a tenth of the traffic.
    assert counts[: len(counts) // 100 + 1].sum() > 0.1 * 6000
    assert (counts == 1).mean() > 0.15  # and many are typed once


def test_users_have_one_of_the_tastes_and_some_patience() -> None:
    users = make_users(np.random.default_rng(0), 60_000)
    assert set(users.thrift.tolist()) == set(THRIFT)
    assert users.patience.mean() == pytest.approx(12.0 / 13.2, abs=0.005)


def test_intents_are_drawn_by_frequency_among_those_born() -> None:
    intents = Intents(
        type=np.zeros(3, np.int32),
        wanted=np.full((3, 6), -1, np.int32),
        price_wish=np.zeros(3, np.int64),
        birth=np.array([START, START + 100, START]),
        weight=np.array([1.0, 5.0, 3.0]),
    )
    rng = np.random.default_rng(0)
    early = (
        np.bincount(
            draw_intents(rng, intents, np.full(40_000, START + 99)), minlength=3
        )
        / 40_000
    )
    late = (
        np.bincount(
            draw_intents(rng, intents, np.full(40_000, START + 100)), minlength=3
        )
        / 40_000
    )
    np.testing.assert_allclose(early, [1 / 4, 0, 3 / 4], atol=0.01)
    np.testing.assert_allclose(late, [1 / 9, 5 / 9, 3 / 9], atol=0.01)
