"""The whole command, and every kind of bad input: one sentence that says what to do."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam.preprocess import main
from tests.beam.small_shop import CONFIG, EVENTS, ITEMS, arguments, lines_of, write_logs


def failure(argv: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Runs the command, which must fail with status 1, one sentence and nothing on stdout."""
    assert main(argv) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return sentence


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "none.jsonl",
            None,
            "expected events in {path}, but no file matches; check the path",
        ),
        ("empty.jsonl", b"", "expected events, but {path} holds no rows"),
        (
            "e.jsonl",
            b'{"kind": "click"}\n',
            "expected the column event in {path}, which has kind",
        ),
        (
            "e.jsonl",
            lines_of([{**EVENTS[2], "item_id": "x"}, {**EVENTS[6], "item_id": "y"}]),
            "the catalogue has none of the items that the 2 events name",
        ),
        (
            "e.jsonl",
            lines_of(EVENTS[:2]),
            "none of the 2 events is a click or an order; without clicks there is",
        ),
        (
            "e.jsonl",
            lines_of(EVENTS) + b'{"query": "A\xe7\xe3o"}\n' * 2,
            "2 of 12 rows of events were rejected (not_utf8 2), more than max_rejected = 10.00% allows: see",
        ),
        (
            "e.csv",
            "event,request_id,timestamp,query,item_id\nclick,r,1,bot\xe3o,a\n".encode(
                "latin1"
            ),
            "not_utf8",
        ),
        (
            "e.jsonl.gz",
            gzip.compress(lines_of(EVENTS) * 2000, mtime=0)[:-9],
            "{path} is not a whole gzip file",
        ),
        ("e.parquet", b"PAR1", "{path} is not a whole Parquet file"),
        (
            "e.jsonl",
            lines_of([*EVENTS[4:7], EVENTS[9]]),
            "the log has 1 orders, but no record has an ordered item",
        ),
        (
            "e.jsonl",
            lines_of(EVENTS[:6]),
            "all 2 requests fell into the train split and the test split is empty (split_by query, test_fraction 0.5)",
        ),
        (
            "e.jsonl",
            lines_of(EVENTS[6:7]),
            "fell into the test split and the train split is empty",
        ),
    ],
)
def test_bad_events_are_one_sentence(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    data: bytes | None,
    message: str,
) -> None:
    write_logs(tmp_path)
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    sentence = failure(
        [*arguments(tmp_path, events=name), "--output", str(tmp_path / "out")], capfd
    )
    assert message.format(path=path) in sentence
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_gzip_cut_after_its_first_rows_is_found_by_the_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first 1,000 rows, which the command looks at before it starts, are whole."""
    write_logs(tmp_path)
    rng = np.random.default_rng(0)
    clicks = [
        {**EVENTS[2], "request_id": str(number)}
        for number in rng.integers(10**9, size=20_000)
    ]
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(lines_of(clicks))[:-1000])
    sentence = failure(
        [*arguments(tmp_path, events="e.jsonl.gz"), "--output", str(tmp_path / "out")],
        capfd,
    )
    assert sentence.startswith(f"error: {tmp_path}/e.jsonl.gz is not a whole gzip file")
    assert sentence.endswith("copy it here again")


@pytest.mark.parametrize(
    ("data", "config", "message"),
    [
        ("", {}, "expected items, but {path} holds no rows"),
        (
            "id,title\na,Red shoe\n",
            {},
            "expected the column item_id in {path}, which has id, title",
        ),
        (
            ITEMS,
            {"item_columns": {"title": "name"}},
            "expected the column name in {path}",
        ),
        (
            ITEMS,
            {"roles": {"size": "number"}},
            "the config gives a role to size, but {path} has only item_id",
        ),
        (
            "item_id,title,size\na,Red shoe,\nb,Blue shoe,\nc,Red hat,\nd,Green hat,\n",
            {"roles": {"size": "number"}},
            "expected values in the number column size, but no item of the catalogue has a value",
        ),
        (
            ITEMS.replace("10,", "ten,"),
            {},
            "1 of 4 rows of items were rejected (bad_number 1)",
        ),
    ],
)
def test_a_bad_catalogue_is_one_sentence(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    data: str,
    config: dict[str, Any],
    message: str,
) -> None:
    write_logs(tmp_path)
    path = tmp_path / "items.csv"
    path.write_text(data)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    sentence = failure([*arguments(tmp_path), "--output", str(tmp_path / "out")], capfd)
    assert message.format(path=path) in sentence


def test_a_flag_that_nobody_knows_is_wrong_usage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(
            [
                *write_logs(tmp_path),
                "--output",
                str(tmp_path / "out"),
                "--split-bye",
                "query",
            ]
        )
    assert exit_.value.code == 2
    assert "unrecognized arguments: --split-bye query" in capfd.readouterr().err


def test_help_is_there_without_the_heavy_libraries() -> None:
    code = "import sys; from beam.preprocess import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'tensorflow', 'apache_beam', 'pyarrow'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "--split-by {time,query}" in done.stdout
