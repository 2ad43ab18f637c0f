"""The whole shop, opened from a seed, and the events of its log in the order of time."""

import dataclasses
import enum
from collections.abc import Iterator

import numpy as np

from beam.shop import engine, traffic
from beam.shop.behaviour import Market, Utilities, browse
from beam.shop.catalogue import Catalogue, make_catalogue
from beam.shop.queries import Intents, Queries, make_intents, make_queries

LATE_SHARE = 0.2  # of the orders come by a later checkout and name no request
LATE_WINDOW = 24 * 3600  # seconds after the click within which those come

_CHUNK = 4096  # requests simulated at a time
_REQUESTS_PER_INTENT = 6
_INTENTS = (20, 30_000)  # at least, at most


class Kind(enum.IntEnum):
    """The kinds of events, named in lower case in the log; of two at the same second the lower comes first."""

    IMPRESSION = 0
    CLICK = 1
    ORDER = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Events:
    """Events in the order of time, as int64 columns of equal length.

    Attributes:
        kind: A `Kind`.
        time: Seconds.
        request: Index of the request, -1 where the log does not name it.
        query: Index of the query, -1 where the log does not name the request.
        item: Index of the item.
        position: 0-based, -1 for orders.
        user: Index of the user.
    """

    kind: np.ndarray
    time: np.ndarray
    request: np.ndarray
    query: np.ndarray
    item: np.ndarray
    position: np.ndarray
    user: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, which: np.ndarray) -> "Events":
        """Those events, by indices or by a mask."""
        return Events(
            **{f.name: getattr(self, f.name)[which] for f in dataclasses.fields(self)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shop:
    """Everything that is settled before the first page is shown."""

    catalogue: Catalogue
    intents: Intents
    queries: Queries
    users: traffic.Users
    requests: traffic.Requests
    market: Market
    guess: np.ndarray
    pools: engine.Pools
    rng: np.random.Generator


def open_shop(*, num_requests: int, num_items: int, seed: int) -> Shop:
    """Invents a shop and its month of requests.

    Every concern draws from a random stream of its own, so that a change to one leaves the others as they were.
    """
    for_items, for_intents, for_queries, for_traffic, for_engine, for_log = (
        np.random.default_rng(seed).spawn(6)
    )
    catalogue = make_catalogue(for_items, num_items)
    intents = make_intents(
        for_intents,
        catalogue,
        int(np.clip(num_requests // _REQUESTS_PER_INTENT, *_INTENTS)),
    )
    queries = make_queries(for_queries, catalogue, intents)
    users = traffic.make_users(for_traffic, num_requests)
    requests = traffic.make_requests(
        for_traffic, num_requests, users=users, intents=intents, queries=queries
    )
    index = engine.LexicalIndex(
        catalogue.title, engine.known_rewrites(for_engine, queries.misspelled)
    )
    guess = engine.guess_types(for_engine, catalogue, intents, queries)
    return Shop(
        catalogue=catalogue,
        intents=intents,
        queries=queries,
        users=users,
        requests=requests,
        market=Market(catalogue, intents),
        guess=guess,
        pools=engine.make_pools(index, catalogue, queries.text, guess),
        rng=for_log,
    )


def simulate(shop: Shop) -> Iterator[Events]:
    """The events of the log, some thousand requests at a time; all in all in the order of time.

    Nobody orders an item twice: the second order of the same user and item does not take place.
    """
    explorer = engine.Explorer(shop.catalogue)
    num_requests = len(shop.requests.time)
    bought = np.empty(0, np.int64)
    waiting: list[Events] = []  # those after the time of the chunk's last request
    for start in range(0, num_requests, _CHUNK):
        stop = min(start + _CHUNK, num_requests)
        events, bought = _simulate_chunk(shop, explorer, np.arange(start, stop), bought)
        events = _in_order([*waiting, events])
        is_due = (
            events.time < shop.requests.time[stop]
            if stop < num_requests
            else np.ones(len(events), bool)
        )
        waiting = [events.select(~is_due)]
        yield events.select(is_due)


def late_delays(rng: np.random.Generator, size: int) -> np.ndarray:
    """How long after their clicks late orders come: [size] int64 seconds, some hours, less than `LATE_WINDOW`."""
    return np.minimum(
        900 + rng.exponential(5 * 3600, size).astype(np.int64), LATE_WINDOW - 60
    )


def _simulate_chunk(
    shop: Shop, explorer: engine.Explorer, request: np.ndarray, bought: np.ndarray
) -> tuple[Events, np.ndarray]:
    """The events of some requests, and what all users have bought by then, as sorted keys of user and item."""
    rng = shop.rng
    user, query = shop.requests.user[request], shop.requests.query[request]
    time, intent = shop.requests.time[request], shop.requests.intent[request]
    page = engine.draw_pages(
        rng,
        shop.catalogue,
        shop.pools,
        explorer,
        query=query,
        guess=shop.guess[query],
        time=time,
    )
    utilities = shop.market.utilities(
        intent[:, None], page, shop.users.thrift[user][:, None]
    )
    utilities = Utilities(
        click=utilities.click * (page >= 0),
        order_after_click=utilities.order_after_click,
    )
    clicked, ordered = browse(rng, utilities, shop.users.patience[user])

    row, position = np.nonzero(page >= 0)
    shown = _events(
        Kind.IMPRESSION, request[row], shop, page[row, position], position, time[row]
    )
    row, position = np.nonzero(clicked)
    click_time = time[row] + 3 + 4 * position + rng.integers(0, 4, len(row))
    clicks = _events(
        Kind.CLICK, request[row], shop, page[row, position], position, click_time
    )

    orders = clicks.select(np.flatnonzero(ordered[row, position]))
    keys = orders.user * len(shop.catalogue) + orders.item
    _, first = np.unique(keys, return_index=True)
    new = np.sort(first[~np.isin(keys[first], bought)])
    orders, keys = orders.select(new), keys[new]
    is_late = rng.random(len(orders)) < LATE_SHARE
    soon = rng.integers(60, 1800, len(orders))
    late = late_delays(rng, len(orders))
    orders = dataclasses.replace(
        orders,
        kind=np.full(len(orders), Kind.ORDER),
        time=orders.time + np.where(is_late, late, soon),
        request=np.where(is_late, -1, orders.request),
        query=np.where(is_late, -1, orders.query),
        position=np.full(len(orders), -1),
    )
    return _in_order([shown, clicks, orders]), np.union1d(bought, keys)


def _events(
    kind: Kind,
    request: np.ndarray,
    shop: Shop,
    item: np.ndarray,
    position: np.ndarray,
    time: np.ndarray,
) -> Events:
    return Events(
        kind=np.full(len(request), kind),
        time=time,
        request=request,
        query=shop.requests.query[request],
        item=item.astype(np.int64),
        position=position,
        user=shop.requests.user[request],
    )


def _in_order(parts: list[Events]) -> Events:
    """All events by time; at the same second impressions first, and otherwise as they came."""
    joined = Events(
        **{
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in dataclasses.fields(Events)
        }
    )
    return joined.select(np.lexsort((joined.kind, joined.time)))
