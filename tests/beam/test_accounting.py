"""Every row is accounted for, and too many bad ones stop the job."""

import pytest

from beam.accounting import check_balance, check_parts, check_rejected, table
from tfrs_mmse.cli import CommandError

COUNTS = {
    "events": {
        "read": 10,
        "used": 6,
        "dropped_unknown_item": 1,
        "rejected_not_json": 2,
        "rejected_not_utf8": 1,
    }
}


def test_rows_read_are_used_dropped_or_rejected() -> None:
    check_balance(COUNTS)
    with pytest.raises(
        RuntimeError, match="events: 11 rows read, but 10 accounted for"
    ):
        check_balance({"events": {**COUNTS["events"], "read": 11}})


def test_too_many_rejected_rows_are_told_with_their_reasons() -> None:
    check_rejected(COUNTS, max_rejected=0.3, letters="out")
    message = (
        r"3 of 10 rows of events were rejected \(not_json 2, not_utf8 1\), more than max_rejected = 29.00% allows: "
        r"see out/rejected-events-\*, put the log right or raise max_rejected"
    )
    with pytest.raises(CommandError, match=message):
        check_rejected(COUNTS, max_rejected=0.29, letters="out")


def test_the_table_has_rows_read_first_and_every_outcome_once() -> None:
    lines = [line.split() for line in table(COUNTS).splitlines()]
    assert lines[:2] == [["events", "read", "10"], ["events", "used", "6"]]
    assert sorted(line[1] for line in lines) == sorted(COUNTS["events"])


def test_a_part_that_got_lost_or_came_twice_is_noticed() -> None:
    check_parts({})
    check_parts({"sent": 3, "received": 3})
    for received in (2, 4):
        with pytest.raises(
            CommandError,
            match=rf"3 parts .* were sent and {received} arrived: the runner lost some",
        ):
            check_parts({"sent": 3, "received": received})
