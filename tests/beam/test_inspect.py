"""Looking at a shop's own logs: what is guessed, what is told, and that preprocessing takes the proposed config."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from beam import guesses, preprocess
from beam.config import PreprocessConfig
from beam.inspect import main
from tfrs_mmse.schema import Manifest

SHOP_ITEMS = [
    {"sku": f"p{n}", "Product Name": f"{color} shoe number {n}", "Colour": color, "shop": n % 3, "weight": n,
     "ean": 9000 + n}
    for n, color in enumerate(["red", "blue"] * 60)
]  # fmt: skip


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def shop_events(*, order_hours: float = 1.0) -> list[dict[str, Any]]:
    """Two page views of each of some searches, with the shop's own names, and orders from another system."""
    events = []
    for n in range(60):
        moment = f"{1 + n % 28:02d}/03/2024 {8 + n % 12:02d}:30:00"
        search = {
            "searchId": f"s{n}",
            "Search Term": ["Shoe", "red", "blue"][n % 3],
            "customer_id": f"u{n}",
        }
        for rank in range(3):
            shown = {"sku": f"p{(n + rank) % 120}", "rank": rank + 1}
            events.append({"action": "product_view", "time": moment, **search, **shown})
        events.append(
            {
                "action": "ProductClick",
                "time": moment,
                **search,
                "sku": f"p{n}",
                "rank": 1,
            }
        )
        hour, minute = divmod(int((8 + n % 12 + 0.5 + order_hours) * 60), 60)
        bought = f"{1 + n % 28:02d}/03/2024 {hour:02d}:{minute:02d}:00"
        order = {
            "action": "purchase",
            "time": bought,
            "customer_id": f"u{n}",
            "sku": f"p{n}",
        }
        events.append({"searchId": "", "Search Term": "", "rank": "", **order})
    events.append({**events[0], "action": "remove_from_cart"})
    return events


def inspect(
    tmp_path: Path,
    events: Sequence[dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
    *flags: str,
) -> dict[str, Any]:
    log, items = (
        write_csv(tmp_path / "log.csv", events),
        write_csv(tmp_path / "items.csv", SHOP_ITEMS),
    )
    assert main(["--events", str(log), "--items", str(items), *flags]) == 0
    return json.loads(capfd.readouterr().out)


def test_the_proposed_config_is_one_that_preprocessing_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "shop.json"
    found = inspect(tmp_path, shop_events(), capfd, "--write-config", str(config))
    assert found["config"] == json.loads(config.read_text()) == {
        "event_columns": {
            "event": "action",
            "request_id": "searchId",
            "timestamp": "time",
            "query": "Search Term",
            "item_id": "sku",
            "position": "rank",
            "user_id": "customer_id",
        },
        "event_names": {
            "ProductClick": "click",
            "product_view": "impression",
            "purchase": "order",
            "remove_from_cart": "ignore",
        },
        "timestamp_format": "%d/%m/%Y %H:%M:%S",
        "item_columns": {"item_id": "sku", "title": "Product Name"},
        "roles": {"Colour": "categorical", "shop": "categorical", "weight": "number", "ean": "ignore"},
    }  # fmt: skip
    assert found["events"]["kinds"] == {
        "ignore": 1,
        "impression": 180,
        "click": 60,
        "order": 60,
    }
    assert found["events"]["from"] == "2024-03-01T08:30:00+00:00"
    assert found["events"]["orders"]["after_a_click"] == 60
    assert found["events"]["share_in_catalogue"] == 1
    argv = [
        "--events",
        str(tmp_path / "log.csv"),
        "--items",
        str(tmp_path / "items.csv"),
        "--config",
        str(config),
    ]
    assert preprocess.main([*argv, "--output", str(tmp_path / "out")]) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert sum(split["ordered"] for split in manifest.splits.values()) == 60
    assert manifest.accounting["events"]["dropped_ignored_event"] == 1


def warned(found: dict[str, Any], words: str) -> bool:
    return any(words in sentence for sentence in found["warnings"])


def test_healthy_logs_have_few_warnings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = inspect(tmp_path, shop_events(), capfd)
    # Positions from 1, and the three queries that are asked again and again.
    assert len(found["warnings"]) == 2
    assert warned(found, "positions begin at 1") and warned(found, "were asked before")


def test_what_usually_goes_wrong_is_warned_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def changed(**fields: Any) -> list[dict[str, Any]]:
        return [{**event, **fields} for event in shop_events()]

    events = shop_events()
    cases = {
        "no positions": changed(rank=""),
        "no impressions": [
            event for event in events if event["action"] != "product_view"
        ],
        "have no impression": [
            event
            for event in events
            if event["action"] != "product_view" or event["rank"] == ""
        ]
        + [{**events[0], "searchId": "other"}],
        "no orders": [event for event in events if event["action"] != "purchase"],
        "no click": [event for event in events if event["action"] == "product_view"],
        "follow no click": [
            {**e, "customer_id": "x"} if e["action"] == "purchase" else e
            for e in events
        ],
        "are both logs in one time zone": shop_events(order_hours=-3),
        "exact copies": events * 2,
        "several queries": [
            {**event, "searchId": event["searchId"] and "s"} for event in events
        ],
        "items of only": [
            {**event, "sku": f"{event['sku']}x"} for event in events[:100]
        ]
        + events[100:],
        "lie in the future": changed(time="01/03/2124 10:00:00"),
        "are of 'NULL'": changed(customer_id="NULL"),
        "far from all others in time": events * 4
        + [{**events[0], "time": "01/01/1970 00:00:00"}],
        "same time of day": changed(time="01/03/2024 00:00:00"),
    }
    for words, log in cases.items():
        assert warned(inspect(tmp_path, log, capfd), words), words


def test_one_row_for_each_shown_item_is_understood(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"query_id": n // 4, "keyword": "shoe", "ts": 1.7e12 + 60_000 * n, "product_id": f"p{n}", "clicks": n % 4 == 0,
         "purchased": int(n % 8 == 0)}
        for n in range(80)
    ]  # fmt: skip
    found = inspect(tmp_path, rows, capfd)
    assert found["config"]["timestamp_unit"] == "ms"
    assert found["config"]["event_columns"]["clicked"] == "clicks"
    assert found["events"]["kinds"] == {"impression": 60, "click": 10, "order": 10}
    assert found["events"]["from"].startswith("2023-11-14")


def test_rows_that_cannot_be_used_are_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = inspect(
        tmp_path, [*shop_events(), {**shop_events()[0], "rank": "first"}], capfd
    )
    assert found["rejected"]["events"]["bad_position"]["rows"] == 1
    assert "first" in found["rejected"]["events"]["bad_position"]["example"]


def test_a_sample_is_taken_from_all_over_the_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = write_csv(tmp_path / "items.csv", SHOP_ITEMS)
    for n in range(9):
        write_csv(
            tmp_path / f"log-{n}.csv",
            [{**event, "customer_id": f"file{n}"} for event in shop_events()],
        )
    argv = [
        "--events",
        str(tmp_path / "log-*.csv"),
        "--items",
        str(items),
        "--rows",
        "400",
    ]
    assert main(argv) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["events"]["users"] == 4 and found["events"]["events"] == 400


@pytest.mark.parametrize(
    ("values", "config"),
    [
        ([1.7e9, "1700000000"], {}),
        ([1.7e12], {"timestamp_unit": "ms"}),
        ([1.7e15], {"timestamp_unit": "us"}),
        ([1.7e18, None], {"timestamp_unit": "ns"}),
        ([20231114, "20231231"], {"timestamp_format": "%Y%m%d"}),
        (["20231114221320"], {"timestamp_format": "%Y%m%d%H%M%S"}),
        ([20231399], {}),
        (
            ["2023-11-14 22:13:20 UTC"],
            {"timestamp_format": "%Y-%m-%d %H:%M:%S UTC"},
        ),
        (["2023-11-14 22:13:20 CET"], {}),
        (["2024-01-01T00:00:00Z"], {}),
        (
            ["13/01/2024 10:00:00", "01/02/2024 10:00:00"],
            {"timestamp_format": "%d/%m/%Y %H:%M:%S"},
        ),
        (
            ["01/13/2024 10:00:00", "01/02/2024 10:00:00"],
            {"timestamp_format": "%m/%d/%Y %H:%M:%S"},
        ),
        (["soon"], {}),
        ([], {}),
    ],
)
def test_moments_are_recognised(values: list[Any], config: dict[str, str]) -> None:
    assert guesses.clock(values) == config


def test_a_useful_column_that_cannot_name_a_feature_gets_another_name() -> None:
    rows = [
        {
            "item_id": n,
            "title": "lamp",
            "Pack Size": "a large red box",
            "word": "big blue lamp",
            "": "",
        }
        for n in range(20)
    ]
    columns = guesses.item_columns(rows, {})
    assert columns == {"pack_size": "Pack Size", "item_word": "word"}
    assert guesses.roles(rows, columns, {}) == {
        "pack_size": "text",
        "item_word": "text",
    }


def test_events_may_be_numbers_and_names_that_are_no_text_are_left_out() -> None:
    assert guesses.event_names([2, "3", 4.0, "\ud800click", None], {"2": "click"}) == {
        "2": "click",
        "3": "ignore",
        "4": "ignore",
    }


def test_what_the_config_says_is_not_guessed_anew() -> None:
    rows = [{"q": "shoe", "term": "hat"}]
    assert guesses.event_columns(rows, {"query": "term"})["query"] == "term"
    assert guesses.event_names(["view"], {"view": "click"}) == {"view": "click"}
    assert PreprocessConfig(
        **{"roles": guesses.roles([{"shop": 1}], {}, {"shop": "text"})}
    ).roles == {"shop": "text"}
