"""What a sample of the logs tells about them, and what in it usually means trouble."""

import datetime
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from beam.config import KINDS

_HOUR = 3600.0
_MUCH = 0.02  # a share that is worth a warning
# Of the click that an order belongs to, and how far from it at most.
_DIRECTIONS: tuple[tuple[Literal["backward", "forward"], float | None], ...] = (
    ("backward", None),
    ("forward", 24 * _HOUR),
)
_ONE_USER = 0.2
_ONE_TIME = 0.9  # so many of all moments at one time of day are dates only


def of_events(events: pl.DataFrame, *, now: float) -> dict[str, Any]:
    """Facts about a sample of events: a table of `events.EVENTS_SCHEMA`."""
    kinds = {
        kind: int((events["kind"] == number).sum()) for number, kind in enumerate(KINDS)
    }
    shown = events.filter((pl.col("request_id") != "") & (pl.col("kind") > 0))
    requests = shown.group_by("request_id").agg(
        pl.col("query").filter(pl.col("query") != "").n_unique().alias("queries"),
        pl.col("item_id").n_unique().alias("items"),
        (pl.col("timestamp").max() - pl.col("timestamp").min()).alias("seconds"),
        (pl.col("kind") >= KINDS.index("click")).any().alias("has_click"),
        (pl.col("kind") == KINDS.index("impression")).any().alias("has_impression"),
    )
    moments = events["timestamp"]
    impressions = events.filter(pl.col("kind") == KINDS.index("impression"))
    return {
        "events": events.height,
        "kinds": {kind: number for kind, number in kinds.items() if number},
        "from": _moment(moments.min()),
        "to": _moment(moments.max()),
        "requests": requests.height,
        "queries": int(shown.filter(pl.col("query") != "")["query"].n_unique()),
        "items": events["item_id"].n_unique(),
        "users": events.filter(pl.col("user_id") != "")["user_id"].n_unique(),
        "items_of_a_request": _mean(requests["items"]),
        "share": {
            "with_position": _share(
                (impressions["position"] >= 0).sum(), impressions.height
            ),
            "duplicates": _share(events.height - events.n_unique(), events.height),
            "requests_with_click": _share(requests["has_click"].sum(), requests.height),
            "clicked_requests_without_impression": _share(
                (requests["has_click"] & ~requests["has_impression"]).sum(),
                requests["has_click"].sum(),
            ),
            "requests_of_several_queries": _share(
                (requests["queries"] > 1).sum(), requests.height
            ),
            "requests_longer_than_a_day": _share(
                (requests["seconds"] > 24 * _HOUR).sum(), requests.height
            ),
            "of_one_user": _of_one_user(events),
            "in_the_future": _share((moments > now + 24 * _HOUR).sum(), events.height),
        },
        "lowest_position": _lowest(events),
        "orders": of_orders(events),
    }


def of_orders(events: pl.DataFrame) -> dict[str, Any]:
    """How orders and cart events without a request would find one: by the same user's clicks on the same item."""
    known = events.filter(pl.col("user_id") != "")
    orders = known.filter(pl.col("request_id") == "").select(
        "user_id", "item_id", "timestamp"
    )
    clicks = known.filter(
        (pl.col("request_id") != "") & (pl.col("kind") == KINDS.index("click"))
    )
    lost = int(((events["request_id"] == "") & (events["user_id"] == "")).sum())
    clicks = clicks.select("user_id", "item_id", "timestamp").with_columns(
        click=pl.col("timestamp")
    )
    found = {
        "without_request": orders.height + lost,
        "without_request_and_user": lost,
    }
    if not orders.height or not clicks.height:
        return {**found, "after_a_click": 0, "before_their_click": 0}
    orders, clicks = orders.sort("timestamp"), clicks.sort("timestamp")
    matched = [
        orders.join_asof(
            clicks,
            on="timestamp",
            by=["user_id", "item_id"],
            strategy=strategy,
            tolerance=tolerance,
            check_sortedness=False,
        )["click"].is_not_null()
        for strategy, tolerance in _DIRECTIONS
    ]
    after, before = matched
    return {
        **found,
        "after_a_click": int(after.sum()),
        "before_their_click": int((before & ~after).sum()),
    }


def of_items(items: pl.DataFrame, texts: Mapping[str, str]) -> dict[str, Any]:
    """Facts about a sample of the catalogue.

    Args:
        items: A table of `ItemLayout.table_schema`.
        texts: Column of the table -> our name, of the text fields.
    """
    return {
        "rows": items.height,
        "items": items["item_id"].n_unique(),
        "share_filled": {
            name: _share((items[column] != "").sum(), items.height)
            for column, name in texts.items()
        },
    }


def warnings(
    facts: Mapping[str, Any],
    *,
    coverage: float | None,
    events: pl.DataFrame,
    seen_in_both: float | None,
) -> list[str]:
    """What usually goes wrong and is seen here, a sentence each.

    Args:
        facts: What `of_events` gave.
        coverage: The share of the events whose item is in the catalogue; None where only a part of that was read.
        events: The sample.
        seen_in_both: The share of the last fifth's queries that were asked before; None where that cannot be told.
    """
    kinds, share, orders = facts["kinds"], facts["share"], facts["orders"]
    clicked = sum(kinds.get(kind, 0) for kind in ("click", "cart", "order"))
    found = []
    if not clicked:
        found.append(
            "no click, cart event or order is in the sample: without them there is nothing to learn from"
        )
    if not kinds.get("impression"):
        found.append(
            "no impressions: what was shown and not clicked is not known, and the ranking loss learns less"
        )
    elif share["clicked_requests_without_impression"] > _MUCH:
        found.append(
            f"{share['clicked_requests_without_impression']:.0%} of the requests with a click have no impression: is "
            "request_id the same in both, and are all files there?"
        )
    if kinds.get("impression") and not share["with_position"]:
        found.append(
            "no positions: which shown items were seen is not known, so all of them count as seen"
        )
    if facts["lowest_position"] is not None and facts["lowest_position"] > 0:
        found.append(
            f"positions begin at {facts['lowest_position']}: we count from 0; only figures by position show it"
        )
    if not kinds.get("order"):
        found.append("no orders: the model will learn clicks only")
    if orders["without_request"]:
        missed = 1 - orders["after_a_click"] / orders["without_request"]
        if missed > 0.2:
            found.append(
                f"{missed:.0%} of the {orders['without_request']} orders and cart events without a request follow no "
                "click of their user on their item in this sample (it may lie outside): do both logs write user_id and "
                "item_id alike?"
            )
        if orders["before_their_click"] > _MUCH * orders["without_request"]:
            found.append(
                f"{orders['before_their_click']} of them come less than a day before their click: are both logs in "
                "one time zone? (time_zone in --config holds for moments without one)"
            )
    if facts["users"] and share["of_one_user"] > _ONE_USER:
        user = events.filter(pl.col("user_id") != "")["user_id"].mode().sort()[0]
        found.append(
            f"{share['of_one_user']:.0%} of the events with a user are of {user!r}: if that stands for nobody, leave "
            "it empty, or orders go to others' clicks"
        )
    if share["requests_of_several_queries"] > _MUCH:
        found.append(
            f"{share['requests_of_several_queries']:.0%} of the requests have several queries: request_id seems to "
            "name a session; a request should be one page of results"
        )
    if share["requests_longer_than_a_day"] > _MUCH:
        found.append(
            f"{share['requests_longer_than_a_day']:.0%} of the requests last longer than a day"
        )
    if share["duplicates"] > _MUCH:
        found.append(
            f"{share['duplicates']:.0%} of the events are exact copies of another: harmless, they count once"
        )
    if share["in_the_future"] > 0:
        found.append(
            f"{share['in_the_future']:.1%} of the events lie in the future: look at timestamp_unit and time_zone"
        )
    if events.height and _has_outliers(events["timestamp"]):
        found.append(
            f"a few events are far from all others in time, from {facts['from']} to {facts['to']}: split_by time "
            "divides the whole of that period"
        )
    if events.height and _one_time_of_day(events["timestamp"]):
        found.append(
            "nearly all events have the same time of day: a date alone gives attribution by day only"
        )
    if coverage is not None and coverage < 1 - _MUCH:
        found.append(
            f"the catalogue has the items of only {coverage:.0%} of the events; the others are dropped"
        )
    if seen_in_both is not None and seen_in_both > 0.5:
        found.append(
            f"{seen_in_both:.0%} of the queries of the last fifth of the time were asked before: split_by time "
            "measures known queries mostly; --split-by query measures unseen ones"
        )
    return found


def coverage(events: pl.DataFrame, items: pl.DataFrame) -> float:
    """The share of the events whose item the catalogue has."""
    known = events["item_id"].is_in(items["item_id"].implode())
    return _share(known.sum(), events.height)


def seen_before(events: pl.DataFrame) -> float | None:
    """The share of the last fifth's distinct queries that were asked before it; None where there is no such part."""
    asked = events.filter(pl.col("query") != "")
    if not asked.height:
        return None
    start, end = float(asked["timestamp"].min()), float(asked["timestamp"].max())  # type: ignore[arg-type]
    is_late = pl.col("timestamp") >= start + 0.8 * (end - start)
    late, early = (
        asked.filter(is_late)["query"].unique(),
        asked.filter(~is_late)["query"].unique(),
    )
    return (
        _share(late.is_in(early.implode()).sum(), len(late))
        if len(early) and len(late)
        else None
    )


def _lowest(events: pl.DataFrame) -> int | None:
    known = events.filter(pl.col("position") >= 0)["position"]
    return int(known.min()) if len(known) else None  # type: ignore[arg-type]


def _of_one_user(events: pl.DataFrame) -> float:
    """The largest share of the events with a user that one user has; 0 where there are few."""
    known = events.filter(pl.col("user_id") != "")["user_id"]
    if len(known) < 100:
        return 0.0
    return _share(known.value_counts()["count"].max(), len(known))


def _one_time_of_day(moments: pl.Series) -> bool:
    times = (moments % (24 * _HOUR)).value_counts()
    return len(moments) > 100 and int(times["count"].max()) > _ONE_TIME * len(moments)  # type: ignore[arg-type]


def _has_outliers(moments: pl.Series) -> bool:
    """Whether the first or the last hundredth of the events takes most of the period."""
    low, high = moments.quantile(0.01), moments.quantile(0.99)
    whole = moments.max() - moments.min()  # type: ignore[operator]
    return len(moments) > 100 and whole > _HOUR and whole > 5 * (high - low)  # type: ignore[operator, return-value]


def _moment(seconds: Any) -> str | None:
    return (
        None
        if seconds is None
        else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
    )


def _mean(numbers: pl.Series) -> float:
    return round(float(numbers.mean() or 0), 2)  # type: ignore[arg-type]


def _share(part: Any, whole: Any) -> float:
    return round(int(part) / whole, 4) if whole else 0.0
