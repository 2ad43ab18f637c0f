import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from beam.shop.files import whole_file, write_events
from beam.shop.queries import Queries
from beam.shop.simulation import Events, Kind, open_shop


def test_events_are_json_objects_that_leave_out_what_is_unknown(tmp_path: Path) -> None:
    catalogue = open_shop(num_requests=1, num_items=3, seed=0).catalogue
    queries = Queries(
        text=('a "b" é',), intent=np.array([0]), first=np.array([0, 1]), misspelled={}
    )
    events = Events(
        kind=np.array([Kind.IMPRESSION, Kind.CLICK, Kind.ORDER, Kind.ORDER]),
        time=np.array([100, 104, 200, 300]),
        request=np.array([7, 7, 7, -1]),
        query=np.array([0, 0, 0, -1]),
        item=np.array([2, 2, 2, 1]),
        position=np.array([0, 0, -1, -1]),
        user=np.array([5, 5, 5, 5]),
    )
    write_events(
        tmp_path / "e.jsonl.gz", [events], catalogue=catalogue, queries=queries
    )

    request = {
        "request_id": "r00000007",
        "query": 'a "b" é',
        "item_id": "i0000002",
        "user_id": "u0000005",
    }
    with gzip.open(tmp_path / "e.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == [
            {"event": "impression", "timestamp": 100, "position": 0, **request},
            {"event": "click", "timestamp": 104, "position": 0, **request},
            {"event": "order", "timestamp": 200, **request},
            {
                "event": "order",
                "timestamp": 300,
                "item_id": "i0000001",
                "user_id": "u0000005",
            },
        ]


def test_gzip_headers_hold_neither_name_nor_time(tmp_path: Path) -> None:
    shop = open_shop(num_requests=1, num_items=1, seed=0)
    write_events(
        tmp_path / "e.jsonl.gz", [], catalogue=shop.catalogue, queries=shop.queries
    )
    header = (tmp_path / "e.jsonl.gz").read_bytes()[:8]
    assert header[3] == 0  # no flags, so no name
    assert header[4:8] == bytes(4)  # no time


def test_a_file_that_failed_leaves_the_old_one_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old")
    with pytest.raises(ValueError, match="halfway"), whole_file(path) as part:
        part.write_text("new, but")
        raise ValueError("halfway")
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    assert path.read_text() == "old"
