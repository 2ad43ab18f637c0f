"""Orders that another system wrote, in files of their own."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from beam import inspect, preprocess
from tfrs_mmse.schema import Manifest

ITEMS = [{"item_id": f"p{n}", "title": f"red shoe {n}"} for n in range(6)]
# Every request shows two items and clicks the first; 2024-03-01 is a Friday.
EVENTS = [
    {"event": event, "request_id": f"r{n}", "timestamp": f"2024-03-{n + 1:02d}T10:00:00Z", "query": f"shoe {n % 4}",
     "item_id": f"p{(n + place) % 6}", "position": place, "user_id": f"u{n}"}
    for n in range(20)
    for event, place in (("impression", 0), ("impression", 1), ("click", 0))
]  # fmt: skip
# Eleven hours later, by the clock of Sao Paulo, which is three behind.
ORDERS = [
    {"Order Date": f"{n + 1:02d}/03/2024 18:00", "Customer": f"u{n}", "SKU": f"p{n % 6}", "": n}
    for n in range(20)
]  # fmt: skip
CONFIG = {
    "split_by": "query",
    "test_fraction": 0.5,
    "order_columns": {"timestamp": "Order Date", "user_id": "Customer", "item_id": "SKU"},
    "order_timestamp_format": "%d/%m/%Y %H:%M",
    "order_time_zone": "America/Sao_Paulo",
}  # fmt: skip


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def arguments(
    tmp_path: Path,
    orders: Sequence[Mapping[str, Any]] = ORDERS,
    **config: Any,
) -> list[str]:
    """The logs written, and the flags that name them."""
    events = tmp_path / "events.jsonl"
    events.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return [
        *("--events", str(events), "--orders", write_csv(tmp_path / "o.csv", orders)),
        *("--items", write_csv(tmp_path / "items.csv", ITEMS)),
        *("--config", str(tmp_path / "config.json")),
    ]


def run(tmp_path: Path, flags: Sequence[str]) -> int:
    return preprocess.main([*flags, "--output", str(tmp_path / "out")])


def test_orders_of_another_system_find_their_clicks(tmp_path: Path) -> None:
    assert run(tmp_path, arguments(tmp_path)) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert sum(split["ordered"] for split in manifest.splits.values()) == 20
    assert sum(split["clicked"] for split in manifest.splits.values()) == 0
    events = manifest.accounting["events"]
    assert events["read"] == 80 == sum(events.values()) - events["read"]
    assert manifest.sources["events"] == [
        str(tmp_path / "events.jsonl"),
        str(tmp_path / "o.csv"),
    ]


def test_they_have_a_time_zone_of_their_own(tmp_path: Path) -> None:
    # By the clock of Tokyo they came before the clicks.
    flags = arguments(tmp_path, order_time_zone="Asia/Tokyo")
    assert run(tmp_path, flags) == 1


def test_an_order_that_names_its_request_needs_no_user(tmp_path: Path) -> None:
    orders = [{"t": 1709290800 + n, "sku": f"p{n}", "req": f"r{n}"} for n in range(6)]
    columns = {"timestamp": "t", "item_id": "sku", "request_id": "req"}
    flags = arguments(
        tmp_path, orders, order_columns=columns, order_timestamp_format=""
    )
    assert run(tmp_path, flags) == 0
    splits = Manifest.read(tmp_path / "out").splits
    assert sum(split["ordered"] for split in splits.values()) == 6


def test_bad_orders_are_kept_apart_and_not_hidden_among_many_events(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(tmp_path, [*ORDERS, {**ORDERS[0], "Order Date": "yesterday"}])
    assert run(tmp_path, [*flags, "--max-rejected", "0.04"]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: 1 of 21 rows of orders were rejected (bad_timestamp 1)"
    )
    assert run(tmp_path, [*flags, "--max-rejected", "0.05"]) == 0
    assert Manifest.read(tmp_path / "out").accounting["events"] == {
        **Manifest.read(tmp_path / "out").accounting["events"],
        "read": 81,
        "rejected_bad_timestamp": 1,
    }
    (letters,) = (tmp_path / "out").glob("rejected-*")
    assert letters.name.startswith("rejected-orders-")
    (letter,) = map(json.loads, letters.read_text().splitlines())
    assert letter["source"] == f"{tmp_path / 'o.csv'}:22"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "expected the column timestamp in"),
        ({"timestamp": "Order Date", "item_id": "SKU"}, "expected the column user_id"),
        (
            {**CONFIG["order_columns"], "query": "Search"},
            'name the column that holds it in --config: {"order_columns": {"query": "..."}}',
        ),
        (
            {"price": "Total"},
            "order_columns names price; orders have timestamp, item_id, user_id",
        ),
    ],
)
def test_a_column_that_is_not_there_is_named(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    columns: dict[str, str],
    message: str,
) -> None:
    assert run(tmp_path, arguments(tmp_path, order_columns=columns)) == 1
    assert message in capfd.readouterr().err.splitlines()[-1]


def test_orders_need_events_and_are_not_among_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(tmp_path)
    assert run(tmp_path, flags[2:]) == 1
    assert "--orders needs --events" in capfd.readouterr().err
    assert run(tmp_path, [*flags, "--events", flags[3]]) == 1
    assert (
        "is among --events and among --orders: it would count twice"
        in capfd.readouterr().err
    )


def test_inspect_proposes_what_preprocessing_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(tmp_path)[:-2]
    known = tmp_path / "zone.json"
    given = ("order_time_zone", "split_by", "test_fraction")
    known.write_text(json.dumps({name: CONFIG[name] for name in given}))
    shop = tmp_path / "shop.json"
    asked = [*flags, "--config", str(known), "--write-config", str(shop)]
    assert inspect.main(asked) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["config"]["order_columns"] == CONFIG["order_columns"]
    assert found["config"]["order_timestamp_format"] == "%d/%m/%Y %H:%M"
    assert found["events"]["kinds"] == {"impression": 40, "click": 20, "order": 20}
    assert run(tmp_path, [*flags, "--config", str(shop)]) == 0
    splits = Manifest.read(tmp_path / "out").splits
    assert sum(split["ordered"] for split in splits.values()) == 20
