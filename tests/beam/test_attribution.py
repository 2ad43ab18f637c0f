"""Orders without a request id go to the user's latest click inside the window."""

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import read_counters
from beam.attribution import AttributeOrders, attribute_orders
from beam.events import Event


def click(
    request_id: str, timestamp: float, user_id: str = "u", item_id: str = "a"
) -> Event:
    return Event(2, request_id, timestamp, "q", item_id, -1, user_id)


def order(timestamp: float, user_id: str = "u", item_id: str = "a") -> Event:
    return Event(3, "", timestamp, "", item_id, -1, user_id)


@pytest.mark.parametrize(
    ("clicks", "request_ids"),
    [
        ([click("r1", 91), click("r2", 95)], ["r2"]),  # the latest
        ([click("r1", 100)], ["r1"]),  # at the same moment
        ([click("r1", 101)], []),  # after the order
        ([click("r1", 90)], ["r1"]),  # 10 s before
        ([click("r1", 89)], []),  # 11 s before: outside the window
        # A tie goes to the greater id, whatever comes first.
        (
            [click("r2", 95), click("r1", 95)],
            ["r2"],
        ),
        ([click("r1", 95), click("r2", 95)], ["r2"]),
        ([], []),
    ],
)
def test_an_order_goes_to_the_latest_click_in_the_window_before_it(
    clicks: list[Event], request_ids: list[str]
) -> None:
    attributed = attribute_orders([order(100), *clicks], window_seconds=10)
    assert [event.request_id for event in attributed] == request_ids


def test_orders_belong_to_their_own_user_and_item() -> None:
    events = [
        click("r1", 10),
        order(20),
        order(20, user_id="v"),
        order(20, item_id="b"),
        order(20, user_id=""),
        Event(1, "r1", 9, "q", "a", 0, "u"),
        Event(3, "r9", 21, "q", "c", -1, ""),
    ]
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    given = (
        pipeline
        | beam.Create(events, reshuffle=False)
        | AttributeOrders(window_seconds=60)
    )
    assert_that(
        given,
        equal_to(
            [events[0], order(20)._replace(request_id="r1"), events[5], events[6]]
        ),
    )
    result = pipeline.run()
    assert read_counters(result, ["events"]) == {
        "events": {"dropped_order_unattributed": 3}
    }
