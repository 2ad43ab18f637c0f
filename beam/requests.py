"""From events to search requests: each shown item with the deepest stage that it reached, and the unclicked policy.

Tables of this module, one row a slot, hold requests side by side: a slot is an item of a request.
"""

import dataclasses
from collections import Counter

import polars as pl

from beam.accounting import Dropped
from beam.config import PreprocessConfig
from tfrs_mmse.schema import Level

# The events of one item in one request that have level and query in common, as one row.
SIGHTINGS: dict[str, type[pl.DataType]] = {
    "request_id": pl.String,
    "item_id": pl.String,
    "level": pl.UInt8,
    "query": pl.String,  # as typed; "" where it is not known
    "timestamp": pl.Float64,  # of the earliest
    "position": pl.Int32,  # the highest on the page; -1 where it is not known
    "num_rows": pl.UInt32,  # of the log, for the accounting
}
# An item of a request: the deepest level, the earliest query and moment of the whole request.
SLOTS = SIGHTINGS

_UNKNOWN = 2**31 - 1
_NO_CLICK = pl.lit(None, pl.Int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnclickedPolicy:
    """Which shown items count as seen and not wanted; see `PreprocessConfig` for the attributes."""

    unclicked_below: int
    max_unclicked: int

    @classmethod
    def of(cls, config: PreprocessConfig) -> "UnclickedPolicy":
        return cls(
            unclicked_below=config.unclicked_below, max_unclicked=config.max_unclicked
        )


def combine_events(events: pl.DataFrame) -> pl.DataFrame:
    """Events as sightings: fewer rows, and what a request will be does not change by it.

    Args:
        events: Columns of `SIGHTINGS` but `num_rows`.
    """
    return (
        events.group_by("request_id", "item_id", "level", "query")
        .agg(
            pl.col("timestamp").min(),
            _highest_position(),
            pl.len().cast(pl.UInt32).alias("num_rows"),
        )
        .select(*SIGHTINGS)
    )


def _highest_position() -> pl.Expr:
    known = pl.when(pl.col("position") >= 0).then(pl.col("position"))
    return known.min().fill_null(-1).alias("position")


def collect_slots(
    sightings: pl.DataFrame, *, max_items: int
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    """One slot for each item of each request.

    Args:
        sightings: All of the requests'.
        max_items: A request with more distinct items is dropped.

    Returns:
        A table of `SLOTS`, and how many rows of the log were dropped, by policy. A slot's query is that of its
        request's earliest event that has one (of several, the first by alphabet), `""` where none has.
    """
    slots = sightings.group_by("request_id", "item_id").agg(
        pl.col("level").max(), _highest_position(), pl.col("num_rows").sum()
    )
    queries = (
        sightings.filter(pl.col("query") != "")
        .sort("timestamp", "query")
        .group_by("request_id", maintain_order=True)
        .agg(pl.col("query").first())
    )
    moments = sightings.group_by("request_id").agg(pl.col("timestamp").min())
    slots = (
        slots.join(moments, on="request_id", how="left")
        .join(queries, on="request_id", how="left")
        .with_columns(pl.col("query").fill_null(""))
        .select(*SLOTS)
    )
    is_page = pl.len().over("request_id") <= max_items
    return _keep(slots, is_page, Dropped.REQUEST_TOO_LARGE)


def build_requests(
    slots: pl.DataFrame, policy: UnclickedPolicy
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    """Keeps the requests that can be learned from, and of each the slots that say something.

    Args:
        slots: A table of `SLOTS` whose items the catalogue has.
        policy: Which unclicked items are kept.

    Returns:
        The slots that are kept, and how many rows of the log were dropped, by policy.
    """
    total: Counter[Dropped] = Counter()
    has_click = (pl.col("level") > Level.UNCLICKED).any().over("request_id")
    slots, dropped = _keep(slots, has_click, Dropped.REQUEST_WITHOUT_CLICK)
    total += dropped
    slots, dropped = _keep(slots, pl.col("query") != "", Dropped.ORDER_UNATTRIBUTED)
    total += dropped
    slots, dropped = apply_unclicked_policy(slots, policy)
    return slots, total + dropped


def apply_unclicked_policy(
    slots: pl.DataFrame, policy: UnclickedPolicy
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    """Keeps what was clicked, and the unclicked items that were probably seen.

    An unclicked item far below the last click was probably never looked at. Of the others those nearest to a click
    are kept, then the higher ones. Where positions are not known, nothing is far.

    Returns:
        The slots kept, and how many rows of the log were dropped, by policy.
    """
    is_unclicked = pl.col("level") == Level.UNCLICKED
    position = pl.col("position").cast(pl.Int64)  # the sums below pass 32 bits
    clicked = (
        pl.when(~is_unclicked & (position >= 0)).then(position).otherwise(_NO_CLICK)
    )
    slots = slots.sort("request_id", "position").with_columns(
        _last=clicked.max().over("request_id"),
        _before=clicked.forward_fill().over("request_id"),
        _after=clicked.backward_fill().over("request_id"),
    )
    is_near = (position <= pl.col("_last") + policy.unclicked_below).fill_null(True)
    slots, far = _keep(slots, ~is_unclicked | is_near, Dropped.FAR_BELOW_LAST_CLICK)

    nearest = pl.min_horizontal(
        position - pl.col("_before"), pl.col("_after") - position
    )
    distance = pl.when(position >= 0).then(nearest).fill_null(_UNKNOWN)
    slots = slots.with_columns(_distance=distance).sort(
        "request_id", "_distance", "position", "item_id"
    )
    rank = is_unclicked.cast(pl.Int64).cum_sum().over("request_id")
    slots, over = _keep(
        slots,
        ~is_unclicked | (rank <= policy.max_unclicked),
        Dropped.OVER_MAX_UNCLICKED,
    )
    return slots.select(pl.exclude("^_.*$")), far + over


def _keep(
    slots: pl.DataFrame, wanted: pl.Expr, policy: Dropped
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    """The slots that are wanted, and how many rows of the log the others were made of."""
    is_wanted = (
        slots.select(wanted)[:, 0] if slots.height else pl.Series([], dtype=pl.Boolean)
    )
    num_rows = int(slots.filter(~is_wanted)["num_rows"].sum())
    return slots.filter(is_wanted), Counter({policy: num_rows})


def keep_known(
    slots: pl.DataFrame, known: pl.DataFrame
) -> tuple[pl.DataFrame, Counter[Dropped]]:
    """The slots whose item the catalogue has: `known` names these in `item_id`."""
    is_known = pl.col("item_id").is_in(known["item_id"].implode())
    return _keep(slots, is_known, Dropped.UNKNOWN_ITEM)
