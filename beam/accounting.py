"""Where every row of the logs went: read = used + dropped by a policy + rejected for a reason."""

import collections
import enum
import functools
from collections.abc import Iterable, Mapping

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.metrics.metricbase import Counter
from apache_beam.runners.runner import PipelineResult

from tfrs_mmse.cli import CommandError

EVENTS, ORDERS, ITEMS = "events", "orders", "items"
SOURCES = (EVENTS, ORDERS, ITEMS)
LEVELS = "levels"  # counters of valid events by level, beside the accounting

READ, USED = "read", "used"

PARTS = "parts"  # counters of what passes between the workers
SENT, RECEIVED = "sent", "received"
_LOST = "the runner lost some on the way between its workers"


class Rejected(enum.StrEnum):
    """Why a row cannot be used by anybody: it is broken, and kept in the dead letters."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    WRONG_NUMBER_OF_FIELDS = "wrong_number_of_fields"
    UNCLOSED_QUOTE = "unclosed_quote"
    MISSING_FIELD = "missing_field"
    UNKNOWN_EVENT = "unknown_event"
    BAD_REQUEST_ID = "bad_request_id"
    BAD_USER_ID = "bad_user_id"
    BAD_ITEM_ID = "bad_item_id"
    BAD_TIMESTAMP = "bad_timestamp"
    BAD_POSITION = "bad_position"
    BAD_FLAG = "bad_flag"
    BAD_QUERY = "bad_query"
    EMPTY_QUERY = "empty_query"
    QUERY_TOO_LONG = "query_too_long"
    EMPTY_TITLE = "empty_title"
    BAD_TEXT = "bad_text"
    BAD_NUMBER = "bad_number"

    @property
    def counter(self) -> str:
        return f"rejected_{self}"


class Dropped(enum.StrEnum):
    """Why a good row is left out of the records, by policy."""

    IGNORED_EVENT = "ignored_event"  # of a kind that the config ignores
    REQUEST_TOO_LARGE = "request_too_large"  # more items than anybody was shown at once
    UNKNOWN_ITEM = "unknown_item"  # the catalogue does not have the item
    ORDER_UNATTRIBUTED = (
        "order_unattributed"  # no request, or no query, that the order could belong to
    )
    REQUEST_WITHOUT_CLICK = (
        "request_without_click"  # nothing in it was clicked or ordered
    )
    FAR_BELOW_LAST_CLICK = (
        "far_below_last_click"  # unclicked, and probably never looked at
    )
    OVER_MAX_UNCLICKED = (
        "over_max_unclicked"  # unclicked, and the request has enough of them
    )
    UNCLICKED_BUT_POSITIVE = "unclicked_but_positive"  # unclicked here, clicked in another request of the query
    DUPLICATE_ITEM = (
        "duplicate_item"  # another row of an item that the catalogue already has
    )

    @property
    def counter(self) -> str:
        return f"dropped_{self}"


class RejectedRow(Exception):
    """Raised by the rules that parse rows; the DoFn that calls them catches this and nothing else."""

    def __init__(self, reason: Rejected) -> None:
        super().__init__(reason)
        self.reason = reason


@functools.cache
def _counter(namespace: str, name: str) -> Counter:
    return Metrics.counter(namespace, name)


def count(namespace: str, name: str, increment: int = 1) -> None:
    """Adds to a counter of the running pipeline."""
    _counter(namespace, name).inc(increment)


def count_dropped(policy: Dropped, num_rows: int, source: str = EVENTS) -> None:
    if num_rows:
        _counter(source, policy.counter).inc(num_rows)


def count_all_dropped(dropped: Mapping[Dropped, int]) -> None:
    for policy, num_rows in dropped.items():
        count_dropped(policy, num_rows)


def read_counters(
    result: PipelineResult, namespaces: Iterable[str]
) -> dict[str, dict[str, int]]:
    """The counters of a finished pipeline: namespace -> name -> value, names sorted."""
    totals: dict[str, dict[str, int]] = {namespace: {} for namespace in namespaces}
    found = result.metrics().query(MetricsFilter().with_namespaces(list(totals)))[
        "counters"
    ]
    for metric in sorted(found, key=lambda m: m.key.metric.name):
        value = metric.attempted if metric.committed is None else metric.committed
        names = totals[metric.key.metric.namespace]
        names[metric.key.metric.name] = names.get(metric.key.metric.name, 0) + (
            value or 0
        )
    return totals


def merge_orders(
    counters: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, int]]:
    """The accounting of events and items: an order that was read is one of the events from then on."""
    events = collections.Counter(counters[EVENTS])
    events.update(counters[ORDERS])
    return {EVENTS: dict(sorted(events.items())), ITEMS: dict(counters[ITEMS])}


def check_balance(accounting: Mapping[str, Mapping[str, int]]) -> None:
    """Asserts that every row read is accounted for exactly once.

    Raises:
        RuntimeError: one is not. That is a mistake in the pipeline, or the runner counts retried work twice.
    """
    for source, counts in accounting.items():
        read = counts.get(READ, 0)
        accounted = sum(value for name, value in counts.items() if name != READ)
        if read != accounted:
            raise RuntimeError(
                f"{source}: {read} rows read, but {accounted} accounted for: {dict(counts)}"
            )


def lost(what: str) -> CommandError:
    """The error of a run in which the runner lost data between its workers."""
    return CommandError(
        f"{what}: {_LOST}, and the output would be wrong; run it again, on this machine with "
        "--direct_num_workers=1 --direct_running_mode=in_memory, which needs no such way"
    )


def is_lost(error: CommandError) -> bool:
    """Whether it is such an error; from another process it comes as its sentence alone."""
    return _LOST in str(error)


def check_parts(parts: Mapping[str, int]) -> None:
    """Asserts that every part of a table that a worker sent has arrived at another, once.

    Raises:
        CommandError: one has not: the runner lost it, or gave it twice.
    """
    if parts.get(SENT, 0) != parts.get(RECEIVED, 0):
        raise lost(
            f"{parts.get(SENT, 0)} parts of tables were sent and {parts.get(RECEIVED, 0)} arrived"
        )


def check_rejected(
    accounting: Mapping[str, Mapping[str, int]], *, max_rejected: float, letters: str
) -> None:
    """Fails when too large a share of a source's rows was rejected.

    Raises:
        CommandError: with the reasons, most frequent first, and where to find the rows.
    """
    for source, counts in accounting.items():
        reasons = {
            reason: counts[reason.counter]
            for reason in Rejected
            if reason.counter in counts
        }
        rejected, read = sum(reasons.values()), counts.get(READ, 0)
        if rejected > max_rejected * read:
            listed = ", ".join(
                f"{reason} {n}"
                for reason, n in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))
            )
            raise CommandError(
                f"{rejected} of {read} rows of {source} were rejected ({listed}), more than max_rejected = "
                f"{max_rejected:.2%} allows: see {letters}/rejected-{source}-*, put the log right or raise max_rejected"
            )


def table(accounting: Mapping[str, Mapping[str, int]]) -> str:
    """The accounting for a person: one line for each source and outcome, rows read first."""
    lines = []
    for source, counts in accounting.items():
        names = sorted(
            counts,
            key=lambda name: (
                (READ, USED).index(name) if name in (READ, USED) else 2,
                name,
            ),
        )
        for name in names:
            lines.append(f"{source:<8}{name:<36}{counts[name]:>14,}")
    return "\n".join(lines)
