"""`python -m tfrs_mmse.train` on examples that are damaged, of another run, or no longer those that it began with."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tfrs_mmse import runs
from tests.tfrs_mmse.runs import weights
from tfrs_mmse import (
    checkpoints,
    examples,
    records,
    run_directory,
    schema,
    streams,
    train,
)
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig


@pytest.fixture
def data(simulated_shop: Any, tmp_path: Path) -> Path:
    """Examples that a test may damage."""
    return Path(shutil.copytree(simulated_shop.examples, tmp_path / "examples"))


def arguments(data: Path, model_dir: Path, *flags: str) -> list[str]:
    return [*runs.arguments(data, model_dir), *flags]


def shards(data: Path, stream: str = schema.TRAIN) -> list[Path]:
    return [Path(path) for path in streams.stream_files(data, stream)]


def num_records(path: Path) -> int:
    return sum(1 for _ in tf.data.TFRecordDataset(str(path), "GZIP"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(path: Path, change: Any) -> None:
    """Writes a shard anew with each record changed."""
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path), "GZIP")]
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(change(record))


def fails(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """The sentence with which a command fails."""
    capsys.readouterr()
    assert train.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    return err.splitlines()[-1]


@pytest.mark.parametrize("stream", [schema.TRAIN, schema.ITEMS])
def test_a_damaged_shard_is_named_before_anything_is_written(
    data: Path, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    first, *_, last = shards(data, stream)
    truncate(first)
    last.unlink()
    last.mkdir()
    said = fails(capsys, arguments(data, data.parent / "run"))
    assert (
        f"the shard {first} cannot be used (it is cut off), nor 1 more: write the examples anew with "
        "`python -m beam.preprocess`, or leave such shards out by --skip-corrupt"
    ) in said
    assert not (data.parent / "run").exists()


def test_a_stream_that_is_not_used_may_be_damaged(data: Path) -> None:
    truncate(shards(data, schema.TRAIN)[0])
    config = TrainConfig(use_log=False)
    used = examples.check(data, schema.Manifest.read(data), config)
    assert [stream.name for stream in used.streams] == [schema.ITEMS]


def test_damaged_shards_are_left_out_if_asked_for_and_counted(
    data: Path, capsys: pytest.CaptureFixture[str], simulated_shop: Any
) -> None:
    cut, *others = shards(data)
    changed = shards(data, schema.ITEMS)[-1]
    in_them = num_records(cut) + num_records(changed)
    steps = -(-sum(map(num_records, others)) // 64)
    truncate(cut)
    rewrite(changed, lambda record: b"no example")
    run = data.parent / "run"
    argv = arguments(data, run, "--skip-corrupt")
    assert train.main(argv) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary["left_out"] == {"shards": 2, "records": in_them}
    assert summary["steps"] == 2 * steps
    assert f"left out: {cut} (it is cut off)" in err
    assert f"left out: {changed} (Could not parse example" in err
    assert f"2 damaged shards with {in_them} of " in err
    whole = weights(run)
    # The same command goes on, and comes to the same end.
    newest = checkpoints.saved(run)[-1]
    for file in newest.parent.glob(f"{newest.name}.*"):
        file.unlink()
    assert train.main(argv) == 0
    assert f"continuing after step {steps} of" in capsys.readouterr().err
    again = weights(run)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    # Not with more records than it began with.
    shutil.copy(simulated_shop.examples / cut.name, cut)
    said = fails(capsys, argv)
    assert f"{run} holds a run that began without {cut.name}, {changed.name} on" in said


def test_a_run_goes_on_only_with_the_records_that_it_began_with(
    data: Path, capsys: pytest.CaptureFixture[str], simulated_shop: Any
) -> None:
    run, path = data.parent / "run", shards(data)[0]
    assert train.main(arguments(data, run)) == 0
    truncate(path)
    said = fails(capsys, arguments(data, run, "--skip-corrupt"))
    assert f"{run} holds a run that began on other records than {data} offers" in said
    # Whole, and with as many records as before: their order alone is another.
    records = list(
        tf.data.TFRecordDataset(str(shards(simulated_shop.examples)[0]), "GZIP")
    )
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in reversed(records):
            writer.write(record.numpy())
    assert "began on other records" in fails(capsys, arguments(data, run))
    # Where the examples lie does not matter, nor that of the test split.
    shutil.copy(shards(simulated_shop.examples)[0], path)
    truncate(shards(data, schema.TEST)[0])
    moved = data.rename(data.with_name("moved"))
    assert train.main(arguments(moved, run)) == 0
    # An older version kept nothing that says what a run began with.
    saved = run_directory.read(run)
    del saved["examples"]
    (run / schema.CONFIG).write_text(json.dumps(saved))
    truncate(shards(moved)[0])
    assert train.main(arguments(moved, run, "--skip-corrupt")) == 0


def test_without_any_usable_shard_there_is_nothing_to_train_on(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in shards(data):
        truncate(path)
    said = fails(capsys, arguments(data, data.parent / "run", "--skip-corrupt"))
    assert "no usable 'train' record is left: the shard " in said


def test_shards_that_are_not_the_manifests_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shards(data)[0]
    kept = [r.numpy() for r in tf.data.TFRecordDataset(str(path), "GZIP")][:-1]
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in kept:
            writer.write(record)
    total = schema.Manifest.read(data).splits[schema.TRAIN]["requests"]
    said = fails(capsys, arguments(data, data.parent / "run", "--skip-corrupt"))
    assert f"hold {total - 1} records, but its manifest.json counts {total}" in said


@pytest.mark.parametrize("content", [b"one\nother\n", b"\xff\xfe"])
def test_vocabularies_that_are_not_the_manifests_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (data / schema.VOCABULARY_DIR / "word.txt").write_bytes(content)
    said = fails(capsys, arguments(data, data.parent / "run"))
    assert "are not those that its manifest.json names" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.pop("features"), "'features'"),
        (lambda manifest: manifest.pop("num_items"), "num_items"),
        (lambda manifest: manifest["features"].pop("grains"), "'grains'"),
        (lambda manifest: manifest.update(more=1), "more"),
    ],
)
def test_a_manifest_that_lacks_something_is_one_sentence(
    data: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    manifest = json.loads((data / schema.MANIFEST).read_text())
    change(manifest)
    (data / schema.MANIFEST).write_text(json.dumps(manifest))
    said = fails(capsys, arguments(data, data.parent / "run"))
    assert "is not what `python -m beam.preprocess` writes" in said
    assert message in said


def test_a_manifest_that_is_no_object_is_one_sentence(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / schema.MANIFEST).write_text("[]")
    said = fails(capsys, arguments(data, data.parent / "run"))
    assert "is of format version None" in said


def without_items(record: bytes) -> bytes:
    """A record of another feature spec: one grain of its items is missing."""
    example = tf.train.Example.FromString(record)
    del example.features.feature["item/word"]
    del example.features.feature["item/word/length"]
    return example.SerializeToString()


def test_records_of_another_feature_spec_are_named_with_their_shard(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shards(data)[1]
    rewrite(path, without_items)
    said = fails(capsys, arguments(data, data.parent / "run"))
    assert (
        f"the shard {path} cannot be used (assertion failed: [item/word does not fit"
        in said
    )
    assert "bring back what the run began with" in said


def test_a_shard_that_is_gone_in_the_middle_of_a_run_is_named(data: Path) -> None:
    config = TrainConfig(batch_size=64)
    used = examples.check(data, schema.Manifest.read(data), config)
    path = shards(data)[0]
    path.unlink()
    with (
        pytest.raises(CommandError, match=rf"the shard {path} .*\(No such file or dir"),
        used.naming_damage(),
    ):
        list(tf.data.TFRecordDataset(used.streams[0].paths, "GZIP"))


def test_an_error_that_no_shard_explains_stays_what_it_is(data: Path) -> None:
    used = examples.check(data, schema.Manifest.read(data), TrainConfig())
    with pytest.raises(tf.errors.InvalidArgumentError), used.naming_damage():
        tf.reshape(tf.zeros([3]), [2])


def test_embedding_the_catalogue_names_the_damaged_shard(data: Path) -> None:
    path = shards(data, schema.ITEMS)[1]
    truncate(path)
    spec = schema.Manifest.read(data).features
    with pytest.raises(
        CommandError, match=rf"cannot read the records in {path} \(it is cut off\)"
    ):
        list(records.catalogue_batches(data, spec, batch_size=100))
