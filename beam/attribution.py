"""Gives orders and cart events that name no request to the request whose click led to them."""

import polars as pl

from beam.events import EVENTS_SCHEMA
from tfrs_mmse.schema import Level

# Clicks with a request, and what has none, of users who are known.
TOUCHES: dict[str, type[pl.DataType]] = {
    **{name: dtype for name, dtype in EVENTS_SCHEMA.items() if name != "kind"},
    "level": pl.UInt8,
}
_OF = ["user_id", "item_id"]


def touches(events: pl.DataFrame) -> pl.DataFrame:
    """The events that take part in the attribution: a table of `TOUCHES`.

    Args:
        events: Columns of `TOUCHES`.
    """
    is_click = (pl.col("request_id") != "") & (pl.col("level") == Level.CLICKED)
    return events.filter(
        (pl.col("user_id") != "") & ((pl.col("request_id") == "") | is_click)
    ).select(*TOUCHES)


def attribute(
    events: pl.DataFrame, *, window_seconds: float
) -> tuple[pl.DataFrame, int]:
    """Attributes events without a request to the same user's latest click on the same item, at or before them.

    Of several clicks in the same moment the one whose request id is last by alphabet counts. A click after the order
    counts for nothing, and so does one longer before it than the window.

    Args:
        events: A table of `TOUCHES`: all of these users and items.
        window_seconds: How long before the event the click may be, both ends included.

    Returns:
        The events that could be attributed, with the request id of their click; and how many could not.
    """
    has_request = pl.col("request_id") != ""
    clicks = (
        events.filter(has_request)
        .group_by(*_OF, "timestamp")
        .agg(pl.col("request_id").max().alias("of_click"))
        .sort("timestamp")
    )
    orders = events.filter(~has_request).sort("timestamp")
    attributed = orders.join_asof(
        clicks,
        on="timestamp",
        by=_OF,
        strategy="backward",
        tolerance=window_seconds,
        check_sortedness=False,
    ).filter(pl.col("of_click").is_not_null())
    attributed = attributed.with_columns(request_id=pl.col("of_click")).select(*TOUCHES)
    return attributed, orders.height - attributed.height
