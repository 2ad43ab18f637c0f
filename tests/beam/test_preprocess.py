"""The whole command: a small log whose records are known exactly."""

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.runner import PipelineResult

from beam import local
from beam.accounting import lost
from beam.preprocess import main
from tests.beam.small_shop import EVENTS, ITEMS, arguments, lines_of, write_logs
from tfrs_mmse import schema
from tfrs_mmse.features import read_vocabularies


def read_records(directory: Path, stream: str) -> list[dict[str, list[Any]]]:
    """Every feature of every record of a stream, by the name of the feature."""
    paths = sorted(str(path) for path in directory.glob(f"{stream}-*-of-*.tfrecord.gz"))
    records = []
    for record in tf.data.TFRecordDataset(paths, compression_type="GZIP"):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        records.append(
            {
                name: list(getattr(f, str(f.WhichOneof("kind"))).value)
                for name, f in features.items()
            }
        )
    return records


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    assert main([*write_logs(directory), "--output", str(directory / "out")]) == 0
    return directory / "out"


def by_first_item(
    records: list[dict[str, list[Any]]],
) -> dict[bytes, dict[str, list[Any]]]:
    return {record["item_id"][0]: record for record in records}


def test_the_manifest_accounts_for_every_row(examples: Path) -> None:
    manifest = schema.Manifest.read(examples)
    assert manifest.accounting == {
        "events": {
            "read": 11,
            "rejected_not_json": 1,
            "dropped_unknown_item": 1,  # gone
            "dropped_order_unattributed": 1,  # the order of b, which u never clicked
            "dropped_request_without_click": 1,  # r4
            "dropped_unclicked_but_positive": 1,  # a in request 2
            "used": 6,
        },
        "items": {"read": 4, "used": 4},
    }
    assert manifest.splits == {
        "train": {
            "requests": 2,
            "queries": 1,
            "unclicked": 1,
            "clicked": 1,
            "ordered": 1,
        },
        "test": {
            "requests": 1,
            "queries": 1,
            "unclicked": 0,
            "clicked": 1,
            "ordered": 0,
        },
    }
    assert manifest.num_items == 4
    assert manifest.features.text_fields == ("title", "brand")


def test_vocabularies_are_those_of_the_catalogue_and_the_train_queries(
    examples: Path,
) -> None:
    manifest = schema.Manifest.read(examples)
    vocabularies = read_vocabularies(examples, manifest.features.grains)
    # shoe: two titles, two train queries; acme: two brands; hat and red: two titles. `hat` is a test query.
    assert vocabularies["word"] == ["shoe", "acme", "hat", "red"]
    assert vocabularies["bigram"] == []  # none occurs twice inside a field
    assert vocabularies["brand"] == ["acme"]
    assert vocabularies["price"] == ["20.0"]  # 10 | 20 40
    assert manifest.vocabulary_hash == schema.vocabulary_hash(
        examples, manifest.features.grains
    )
    assert [
        (g.name, g.size) for g in manifest.features.grains if g.name != "character"
    ] == [
        ("word", 5),
        ("bigram", 1),
        ("brand", 2),
        ("price", 3),
    ]


def test_the_records_of_requests_are_known_exactly(examples: Path) -> None:
    train, test = (
        by_first_item(read_records(examples, "train")),
        read_records(examples, "test"),
    )
    third = np.float32(math.log(1 / 3))  # a, c and d each have one of three train slots
    shoe = train[b"a"]
    assert {name: value for name, value in shoe.items() if "character" not in name} == {
        "query": [b"shoe"],
        "query/positive_item_id": [b"a", b"d"],
        "query/word": [1],
        "query/bigram": [],
        "item_id": [b"a", b"c"],
        "item/level": [3, 1],
        "item/position": [1, 0],
        "item/log_probability": [third, third],
        "item/word": [4, 1, 2, 4, 3, 0],  # red shoe | acme, red hat | zed
        "item/word/length": [2, 1, 2, 1],
        "item/bigram": [0, 0],
        "item/bigram/length": [1, 0, 1, 0],
        "item/brand": [1, 0],
        "item/price": [1, 0],
    }
    assert len(shoe["query/character"]) == 4  # _sh sho hoe oe_
    # _re red ed_ and four of shoe, four of acme; three of red, hat and zed each.
    assert shoe["item/character/length"] == [7, 4, 6, 3]
    assert train[b"d"]["item_id"] == [b"d"]
    assert train[b"d"]["item/position"] == [1]
    assert len(train) == 2

    (hat,) = test
    assert (hat["query"], hat["query/positive_item_id"], hat["query/word"]) == (
        [b"hat"],
        [],
        [3],
    )
    assert (hat["item_id"], hat["item/level"], hat["item/position"]) == (
        [b"c"],
        [2],
        [5],
    )


def test_the_records_of_items_are_known_exactly(examples: Path) -> None:
    items = by_first_item(read_records(examples, "items"))
    assert items.keys() == {b"a", b"b", b"c", b"d"}
    assert {
        name: value for name, value in items[b"b"].items() if "character" not in name
    } == {
        "item_id": [b"b"],
        "item/level": [0],
        "item/position": [-1],
        "item/log_probability": [-math.inf],
        "item/title": [b"Blue shoe"],
        "item/text": [b"Blue shoe\nACME"],
        "item/word": [0, 1, 2],  # blue shoe | acme
        "item/word/length": [2, 1],
        "item/bigram": [0],
        "item/bigram/length": [1, 0],
        "item/brand": [1],
        "item/price": [2],
        "item/value/brand": [b"ACME"],
        "item/value/price": [20.0],
    }
    assert items[b"c"]["item/value/price"] == [pytest.approx(math.nan, nan_ok=True)]
    assert items[b"d"]["item/value/brand"] == [b""]
    assert items[b"d"]["item/log_probability"] == [np.float32(math.log(1 / 3))]


def test_the_bad_row_is_kept_with_its_place(examples: Path) -> None:
    (letters,) = examples.glob("rejected-*")
    source = str(examples.parent / "events.jsonl:4")
    assert json.loads(letters.read_text()) == {
        "source": source,
        "reason": "not_json",
        "row": "{",
    }


def test_the_same_logs_give_the_same_bytes_in_any_order_and_format(
    examples: Path, tmp_path: Path
) -> None:
    write_logs(tmp_path)
    rows = [
        dict(zip(ITEMS.splitlines()[0].split(","), line.split(","), strict=True))
        for line in ITEMS.splitlines()[1:]
    ]
    for name, part in (("a", rows[2:]), ("b", rows[:2])):
        pq.write_table(pa.Table.from_pylist(part[::-1]), tmp_path / f"{name}.parquet")
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part-0.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[6:])))
    (tmp_path / "part-1.jsonl").write_bytes(b"".join(lines[:6][::-1]))
    argv = [
        *arguments(tmp_path, events="part-*", items="*.parquet"),
        "--output",
        str(tmp_path / "out"),
    ]
    # Another process, so that Python's hashes differ, too.
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(
        [sys.executable, "-m", "beam.preprocess", *argv],
        check=True,
        env=environment,
        capture_output=True,
    )
    ours = {
        path.relative_to(examples): path
        for path in examples.rglob("*.*")
        if path.suffix in (".gz", ".txt")
    }
    assert len(ours) == 3 * 2 + 5
    assert all(
        path.read_bytes() == (tmp_path / "out" / name).read_bytes()
        for name, path in ours.items()
    )


def test_a_catalogue_without_events_has_items_and_no_splits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_logs(tmp_path)
    output = tmp_path / "out"
    assert main(["--items", str(tmp_path / "items.csv"), "--output", str(output)]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert summary["num_items"] == 4 and summary["splits"] == {}
    assert summary["accounting"] == {"events": {}, "items": {"read": 4, "used": 4}}
    assert schema.Manifest.read(output).splits == {}
    assert {
        record["item/log_probability"][0] for record in read_records(output, "items")
    } == {-math.inf}
    assert not list(output.glob("train-*"))


def records_in(directory: Path) -> dict[Path, bytes]:
    """Everything but the statistics, which tell what has changed since the run before."""
    paths = [path for path in directory.rglob("*.*") if path.stem != "stats"]
    return {path: path.read_bytes() for path in paths}


def test_a_second_run_replaces_the_first_once_its_input_is_seen_to_be_usable(
    tmp_path: Path,
) -> None:
    argv = [*write_logs(tmp_path), "--output", str(tmp_path / "out")]
    assert main(argv) == 0
    # Columns are missing: nothing is touched.
    (tmp_path / "events.jsonl").write_text('{"event": "click"}')
    assert main(argv) == 1
    assert (tmp_path / "out" / "manifest.json").exists()
    # No clicks: known only when all is read, and the older run stays.
    before = records_in(tmp_path / "out")
    (tmp_path / "events.jsonl").write_bytes(lines_of(EVENTS[:2]))
    assert main(argv) == 1
    assert records_in(tmp_path / "out") == before
    # Too many broken rows: they are kept for whoever looks for the reason.
    (tmp_path / "events.jsonl").write_bytes(lines_of(EVENTS) + b"{\n{\n")
    assert main(argv) == 1
    assert before.keys() < set((tmp_path / "out").rglob("*.*"))
    (letters,) = (tmp_path / "out" / "_unfinished").iterdir()
    assert len(letters.read_text().splitlines()) == 2
    write_logs(tmp_path)
    assert main(argv) == 0
    assert records_in(tmp_path / "out") == before


def test_columns_that_are_not_used_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*write_logs(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert (
        "columns not used: seller; give them a role in --config"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "modes"),
    [
        ([], ["multi_processing", "in_memory"]),
        (["--direct_running_mode=multi_processing"], ["multi_processing"]),
    ],
)
def test_a_run_that_lost_parts_is_made_again_in_one_process_unless_that_was_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    flags: list[str],
    modes: list[str],
) -> None:
    seen: list[str] = []

    def lossy(pipeline: beam.Pipeline) -> PipelineResult:
        direct = pipeline.options.view_as(DirectOptions)
        seen.append(direct.direct_running_mode)
        if len(seen) == 1:
            raise lost("3 parts of tables were sent and 2 arrived")
        return local.run(pipeline)

    monkeypatch.setattr("beam.job.run", lossy)
    monkeypatch.setattr("beam.local._SMALL_BYTES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    write_logs(tmp_path)
    argv = [*arguments(tmp_path), "--output", str(tmp_path / "out"), *flags]
    assert main(argv) == (0 if len(modes) > 1 else 1)
    assert seen == modes
    said = capfd.readouterr().err
    assert ("Working again, in one process" in said) == (len(modes) > 1)
    assert "3 parts of tables were sent and 2 arrived: the runner lost some" in said
    assert (tmp_path / "out" / schema.MANIFEST).exists() == (len(modes) > 1)
