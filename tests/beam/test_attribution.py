"""Orders without a request id go to the user's latest click inside the window."""

import pytest

from beam.attribution import TOUCHES, attribute, touches
from tests.beam.tables import table

Row = tuple[str, float, str, str, int, str, int]


def click(
    request_id: str, timestamp: float, user_id: str = "u", item_id: str = "a"
) -> Row:
    return request_id, timestamp, "q", item_id, 4, user_id, 2


def order(
    timestamp: float, user_id: str = "u", item_id: str = "a", level: int = 3
) -> Row:
    return "", timestamp, "", item_id, -1, user_id, level


@pytest.mark.parametrize(
    ("clicks", "request_ids"),
    [
        ([click("r1", 91), click("r2", 95)], ["r2"]),  # the latest
        ([click("r1", 100)], ["r1"]),  # at the same moment
        ([click("r1", 101)], []),  # after the order
        ([click("r1", 90)], ["r1"]),  # 10 s before
        ([click("r1", 89)], []),  # 11 s before: outside the window
        # A tie goes to the greater id, whatever comes first.
        ([click("r2", 95), click("r1", 95)], ["r2"]),
        ([click("r1", 95), click("r2", 95)], ["r2"]),
        ([], []),
    ],
)
def test_an_order_goes_to_the_latest_click_in_the_window_before_it(
    clicks: list[Row], request_ids: list[str]
) -> None:
    attributed, num_lost = attribute(
        table(TOUCHES, order(100), *clicks), window_seconds=10
    )
    assert attributed["request_id"].to_list() == request_ids
    assert num_lost == 1 - len(request_ids)


def test_orders_belong_to_their_own_user_and_item() -> None:
    rows = [click("r1", 10), order(20), order(20, user_id="v"), order(20, item_id="b")]
    attributed, num_lost = attribute(table(TOUCHES, *rows), window_seconds=60)
    # The order keeps what it says of itself.
    assert attributed.rows() == [("r1", 20.0, "", "a", -1, "u", 3)]
    assert num_lost == 2


def test_each_of_many_orders_has_a_click_of_its_own() -> None:
    clicks = [click(f"r{n}", 10 * n) for n in range(5)]
    orders = [order(10 * n + 5) for n in range(5)]
    attributed, _ = attribute(table(TOUCHES, *orders[::-1], *clicks), window_seconds=5)
    assert sorted(attributed.select("timestamp", "request_id").rows()) == [
        (10 * n + 5, f"r{n}") for n in range(5)
    ]


def test_a_cart_event_without_a_request_is_attributed_and_is_no_click_to_others() -> (
    None
):
    attributed, _ = attribute(
        table(TOUCHES, click("r1", 10), order(20, level=2), order(30)),
        window_seconds=60,
    )
    assert sorted(attributed.select("request_id", "level").rows()) == [
        ("r1", 2),
        ("r1", 3),
    ]


def test_only_clicks_and_what_has_no_request_of_known_users_take_part() -> None:
    rows = [
        click("r1", 10),
        order(20),
        click("r1", 10, user_id=""),
        order(20, user_id=""),
        ("r1", 9.0, "q", "a", 0, "u", 1),
        ("r9", 21.0, "", "c", -1, "u", 3),
    ]
    assert touches(table(TOUCHES, *rows)).rows() == rows[:2]
