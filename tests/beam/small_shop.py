"""A small log whose records are known exactly."""

import json
from pathlib import Path
from typing import Any

ITEMS = """item_id,title,brand,price,seller
a,Red shoe,Acme,10,s
b,Blue shoe,ACME,20,s
c,Red hat,Zed,,s
d,Green hat,,40,s
"""
# sha256 puts `shoe` (0.937) and `red` (0.695) into the train half, `hat` (0.097) into the test half.
EVENTS = [
    {
        "event": "impression",
        "request_id": "r1",
        "timestamp": 100,
        "query": " Shoe",
        "item_id": "c",
        "position": 0,
    },
    {
        "event": "impression",
        "request_id": "r1",
        "timestamp": 100,
        "query": " Shoe",
        "item_id": "a",
        "position": 1,
    },
    {
        "event": "click",
        "request_id": "r1",
        "timestamp": 110,
        "query": "shoe",
        "item_id": "a",
        "user_id": "u",
    },
    {"event": "order", "timestamp": 200, "item_id": "a", "user_id": "u"},
    {
        "event": "impression",
        "request_id": 2,
        "timestamp": 300,
        "query": "SHOE",
        "item_id": "a",
        "position": 0,
    },
    {
        "event": "click",
        "request_id": 2,
        "timestamp": 301,
        "query": "SHOE",
        "item_id": "d",
        "position": 1,
    },
    {
        "event": "click",
        "request_id": "r3",
        "timestamp": 400,
        "query": "hat",
        "item_id": "c",
        "position": 5,
    },
    {
        "event": "click",
        "request_id": "r3",
        "timestamp": 401,
        "query": "hat",
        "item_id": "gone",
    },
    {
        "event": "impression",
        "request_id": "r4",
        "timestamp": 500,
        "query": "red",
        "item_id": "b",
        "position": 0,
    },
    {"event": "order", "timestamp": 600, "item_id": "b", "user_id": "u"},
]
CONFIG = {
    "split_by": "query",
    "test_fraction": 0.5,
    "number_buckets": 2,
    "max_rejected": 0.1,
    "num_shards": 2,
}


def write_logs(directory: Path) -> list[str]:
    """Writes the log, one broken line in it, and gives the arguments that name it."""
    lines = [json.dumps(event) for event in EVENTS]
    (directory / "events.jsonl").write_text(
        "\n".join([*lines[:3], "{", *lines[3:]]) + "\n"
    )
    (directory / "items.csv").write_text(ITEMS)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return arguments(directory)


def arguments(directory: Path, **names: str) -> list[str]:
    names = {
        "events": "events.jsonl",
        "items": "items.csv",
        "config": "config.json",
        **names,
    }
    return [
        word
        for flag, name in names.items()
        for word in (f"--{flag}", str(directory / name))
    ]


def lines_of(events: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()
