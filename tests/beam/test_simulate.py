import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam.simulate import main

FILES = ("items.jsonl.gz", "events.jsonl.gz", "truth.parquet")


def run(
    capsys: pytest.CaptureFixture[str], output: Path, *flags: str
) -> dict[str, Any]:
    assert main(["--output", str(output), *flags]) == 0
    return json.loads(capsys.readouterr().out)


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def digests(directory: Path) -> list[str]:
    return [
        hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in FILES
    ]


def test_the_files_hold_what_the_summary_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "shop"
    summary = run(capsys, output, "--requests", "600", "--items", "400", "--seed", "5")

    items, events = read(output / "items.jsonl.gz"), read(output / "events.jsonl.gz")
    requests = {e["request_id"] for e in events if "request_id" in e}
    late = [e for e in events if "request_id" not in e]
    assert summary["items"] == len(items) == len({i["item_id"] for i in items}) == 400
    assert summary["requests"] == len(requests) == 600
    assert summary["events"] == dict(Counter(e["event"] for e in events))
    assert summary["requests_with_click"] == len(
        {e["request_id"] for e in events if e["event"] == "click"}
    )
    assert summary["orders_without_request"] == len(late) > 0
    assert {e["event"] for e in late} == {"order"}
    assert summary["distinct_queries"] == len(
        {e["query"] for e in events if "query" in e}
    )
    assert summary["users"] == len({e["user_id"] for e in events})
    assert summary["truth_rows"] == pq.read_metadata(output / "truth.parquet").num_rows
    assert summary["seed"] == 5
    assert summary["files"] == {name: (output / name).stat().st_size for name in FILES}
    assert sorted(p.name for p in output.iterdir()) == sorted(FILES)


def test_items_and_events_have_the_fields_of_the_contract(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(capsys, tmp_path, "--requests", "300", "--items", "200")

    for item in read(tmp_path / "items.jsonl.gz"):
        assert item["item_id"] and item["title"] and item["brand"] and item["category"]
        assert isinstance(item["price"], float)
        assert item["price"] > 0
    for event in read(tmp_path / "events.jsonl.gz"):
        assert event["item_id"] and event["user_id"]
        assert isinstance(event["timestamp"], int)
        if event["event"] != "order":
            assert event["request_id"] and event["query"]
            assert 0 <= event["position"] < 24


def test_the_same_seed_gives_the_same_bytes_in_another_process(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ("--requests", "300", "--items", "300", "--seed", "7")
    run(capsys, tmp_path / "here", *flags)
    for hash_seed in ("0", "1"):
        command = [
            sys.executable,
            "-m",
            "beam.simulate",
            "--output",
            str(tmp_path / hash_seed),
            *flags,
        ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert digests(tmp_path / hash_seed) == digests(tmp_path / "here")

    run(capsys, tmp_path / "other", *flags[:-1], "8")
    assert not set(digests(tmp_path / "other")) & set(digests(tmp_path / "here"))


def test_one_item_and_one_request_are_enough(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    summary = run(capsys, tmp_path, "--requests", "1", "--items", "1")
    assert summary["events"]["impression"] == 1


@pytest.mark.parametrize(
    "flags,message",
    [
        (
            ("--requests", "0"),
            "argument --requests: expected a whole number of at least 1, got '0'",
        ),
        (
            ("--items", "-3"),
            "argument --items: expected a whole number of at least 1, got '-3'",
        ),
        (
            ("--items", "many"),
            "argument --items: expected a whole number of at least 1, got 'many'",
        ),
        (
            ("--seed", "-1"),
            "argument --seed: expected a whole number of at least 0, got '-1'",
        ),
    ],
)
def test_wrong_numbers_are_a_usage_error(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    flags: tuple[str, str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--output", str(tmp_path / "shop"), *flags])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "shop").exists()


def test_an_output_that_cannot_be_a_directory_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["--output", str(file)]) == 1
    assert (
        capsys.readouterr().err
        == f"error: --output {file} is a file, expected a directory or a new name\n"
    )
