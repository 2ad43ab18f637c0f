"""Whether what came out of the logs can be learned from and measured with."""

from collections.abc import Mapping

from beam.accounting import EVENTS, LEVELS, Dropped
from beam.config import PreprocessConfig
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

_ODD = 8.0  # a factor between the odds of the requests and of the period


def check_events(
    counters: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, Mapping[str, int]],
    config: PreprocessConfig,
) -> None:
    """Fails when the events are valid, but nothing can be learned or measured with them.

    Raises:
        CommandError: no clicks, no item of the catalogue, orders that all got lost, or a split without requests.
    """
    levels, dropped = counters[LEVELS], counters[EVENTS]
    num_events = sum(levels.values())
    if not levels.get("clicked", 0) + levels.get("ordered", 0):
        raise CommandError(
            f"none of the {num_events} events is a click or an order; without clicks there is nothing to learn from: "
            "check that the log's clicks are among the files, and how its events are named"
        )
    num_unknown = dropped.get(Dropped.UNKNOWN_ITEM.counter, 0)
    if (
        num_unknown
        and num_unknown + dropped.get(Dropped.ORDER_UNATTRIBUTED.counter, 0)
        == num_events
    ):
        raise CommandError(
            f"the catalogue has none of the items that the {num_events} events name; "
            "check that --events and --items belong together and write item_id alike"
        )
    has_requests = any(numbers["requests"] for numbers in splits.values())
    has_orders = any(numbers["ordered"] for numbers in splits.values())
    if levels.get("ordered", 0) and has_requests and not has_orders:
        raise CommandError(
            f"the log has {levels['ordered']} orders, but no record has an ordered item; the table above says where "
            "they went (an order without a request needs the user_id of a click on its item within attribution_hours); "
            'to train on clicks alone, leave them out in --config: {"event_names": {"order": "ignore"}}'
        )
    empty = [split for split in schema.SPLITS if not splits[split]["requests"]]
    if len(empty) == len(schema.SPLITS):
        raise CommandError(
            f"no request with a click on an item of the catalogue is left of {num_events} events; "
            "the table above says where they went"
        )
    if empty:
        kept = schema.TEST if empty[0] == schema.TRAIN else schema.TRAIN
        advice = (
            "take more queries"
            if config.split_by == "query"
            else "take a longer period or --split-by query"
        )
        raise CommandError(
            f"all {splits[kept]['requests']} requests fell into the {kept} split and the {empty[0]} split is empty "
            f"(split_by {config.split_by}, test_fraction {config.test_fraction}); {advice}, or change test_fraction"
        )


def odd_split(
    splits: Mapping[str, Mapping[str, int]], config: PreprocessConfig
) -> str | None:
    """A sentence where a split by time holds far more or far fewer requests than its part of the period should."""
    train, test = (splits[split]["requests"] for split in schema.SPLITS)
    share = test / (train + test)
    odds = (share / (1 - share)) / (config.test_fraction / (1 - config.test_fraction))
    if config.split_by != "time" or 1 / _ODD < odds < _ODD:
        return None
    return (
        f"the test split, the last {config.test_fraction:.0%} of the period, holds {share:.1%} of the requests: if "
        "that is not how the shop's traffic went, some moments are wrong (see the days in stats.html)"
    )
