"""The output directory: an older run is replaced, anything else is left alone."""

import dataclasses
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from beam.clock import Clock
from beam.config import PreprocessConfig
from beam.items import ItemLayout
from beam.output import (
    abandon,
    begin,
    finish,
    named,
    read_vocabularies,
    split_counts,
    write_manifest,
)
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import GrainKind

OURS = (
    "manifest.json",
    "items-00000-of-00008.tfrecord.gz",
    "train-00003-of-00004.tfrecord.gz",
    "rejected-events-00000-of-00008.jsonl",
    "vocab/word.txt",
)
LAYOUT = ItemLayout(
    columns={
        "item_id": "item_id",
        "title": "title",
        "brand": "brand",
        "price": "price",
    },
    text_fields=("title",),
    attributes=(("brand", GrainKind.CATEGORICAL), ("price", GrainKind.NUMBER)),
    unused=(),
    clock=Clock(),
)


def fill(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in files(directory)}


def test_an_older_run_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    fill(tmp_path, *OURS)
    folder = begin(f"{tmp_path}/")
    assert names(tmp_path) == set(OURS)
    fill(
        Path(folder),
        "manifest.json",
        "vocab/word.txt",
        "test-00000-of-00001.tfrecord.gz",
        "x.txt.1.part",
    )
    assert set(OURS) < names(tmp_path)
    finish(str(tmp_path))
    assert names(tmp_path) == {
        "manifest.json",
        "vocab/word.txt",
        "test-00000-of-00001.tfrecord.gz",
    }


def test_of_an_abandoned_run_only_the_dead_letters_stay_and_the_next_takes_them(
    tmp_path: Path,
) -> None:
    fill(tmp_path, *OURS)
    letters = "rejected-items-00000-of-00001.jsonl"
    fill(Path(begin(str(tmp_path))), "manifest.json", letters)
    abandon(str(tmp_path))
    assert names(tmp_path) == {*OURS, f"_unfinished/{letters}"}
    begin(str(tmp_path))
    assert names(tmp_path) == set(OURS)
    assert not (tmp_path / "_unfinished").exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "train.tfrecord.gz", "sub/manifest.json", "vocab/word.csv"]
)
def test_a_directory_with_something_else_is_left_alone(
    tmp_path: Path, name: str
) -> None:
    fill(tmp_path, *OURS, name)
    with pytest.raises(
        CommandError,
        match=f"holds {name}, which preprocessing did not write; name an empty",
    ):
        begin(str(tmp_path))
    assert len(files(tmp_path)) == len(OURS) + 1


def test_a_directory_is_named_plainly(tmp_path: Path) -> None:
    assert named(f"{tmp_path}/a//b/../c/") == f"{tmp_path}/a/c"
    assert named("gs://bucket/a//b/") == "gs://bucket/a//b/"
    for name in ("", "o[1]", "what?", "*"):
        with pytest.raises(CommandError, match=r"the output .*directory"):
            named(name)


def test_without_its_manifest_a_run_does_not_take_the_place_of_another(
    tmp_path: Path,
) -> None:
    fill(tmp_path, *OURS)
    begin(str(tmp_path))
    with pytest.raises(CommandError, match="does not hold the manifest"):
        finish(str(tmp_path))
    assert names(tmp_path) == set(OURS)


def test_a_new_directory_is_no_failure_and_a_file_is(tmp_path: Path) -> None:
    begin(str(tmp_path / "new"))
    fill(tmp_path, "file")
    with pytest.raises(
        CommandError, match=r"the output .*/file is a file; name a directory"
    ):
        begin(str(tmp_path / "file"))


def write_vocabularies(directory: Path, **entries: str) -> None:
    (directory / "vocab").mkdir()
    for name in (*schema.TEXT_GRAINS, "brand", "price"):
        entry = "a\n" if name in ("word", "character") else ""
        (directory / "vocab" / f"{name}.txt").write_text(entries.get(name, entry))


def test_sizes_count_the_ids_of_every_grain(tmp_path: Path) -> None:
    write_vocabularies(tmp_path, word="a\nb\n", brand="acme\n", price="1.0\n2.0\n")
    spec, digest = read_vocabularies(str(tmp_path), LAYOUT, PreprocessConfig())
    # Unknown, a, b; unknown alone; unknown, a; unknown and acme; missing and three buckets.
    assert [grain.size for grain in spec.grains] == [3, 1, 2, 2, 4]
    assert digest == schema.vocabulary_hash(tmp_path, spec.grains)


def test_an_empty_vocabulary_of_words_is_an_error_and_one_of_bigrams_is_none(
    tmp_path: Path,
) -> None:
    write_vocabularies(tmp_path, word="")
    with pytest.raises(
        CommandError, match=r"^the vocabulary of word is empty: no word"
    ):
        read_vocabularies(str(tmp_path), LAYOUT, PreprocessConfig())


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (
            "brand",
            "values in the categorical column brand, but no value occurs min_count = 2 times",
        ),
        (
            "price",
            "values in the number column price, but no item of the catalogue has a value; fill it or give it",
        ),
    ],
)
def test_an_attribute_column_without_values_is_named(
    tmp_path: Path, empty: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_vocabularies(tmp_path, **{**{"brand": "acme\n", "price": "1.0\n"}, empty: ""})
    asked = PreprocessConfig(roles={"brand": "categorical", "price": "number"})
    with pytest.raises(CommandError, match=message):
        read_vocabularies(str(tmp_path), LAYOUT, asked)
    # A role that only the column's name suggested is no reason to fail.
    spec, _ = read_vocabularies(str(tmp_path), LAYOUT, PreprocessConfig())
    assert {g.name for g in spec.attribute_grains} == {"brand", "price"} - {empty}
    assert f"column {empty}, but no" in capsys.readouterr().err


def test_the_manifest_reads_back(tmp_path: Path) -> None:
    write_vocabularies(tmp_path, brand="acme\n", price="1.0\n")
    counters = {"train": {"requests": 2, "queries": 1, "clicked": 2}, "test": {}}
    splits = split_counts(counters)
    accounting = {
        "events": {"read": 2, "used": 2},
        "items": {"read": 5, "dropped_duplicate_item": 1, "used": 4},
    }
    summary = write_manifest(
        str(tmp_path),
        layout=LAYOUT,
        config=PreprocessConfig(),
        accounting=accounting,
        splits=splits,
        sources={"events": ["e"], "items": ["i"]},
    )
    manifest = schema.Manifest.read(tmp_path)
    assert manifest.num_items == summary["num_items"] == 4
    assert manifest.splits["train"] == {
        "requests": 2,
        "queries": 1,
        "unclicked": 0,
        "clicked": 2,
        "ordered": 0,
    }
    assert manifest.accounting == accounting
    assert PreprocessConfig.from_dict(manifest.config) == PreprocessConfig()
    assert dataclasses.asdict(manifest)["sources"] == {"events": ["e"], "items": ["i"]}


def test_the_manifest_goes_first_and_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped while it takes its place leaves shards without a manifest, never the other way round."""
    fill(tmp_path, *OURS)
    fill(Path(begin(str(tmp_path))), *OURS)
    moved: list[tuple[str, bool]] = []
    delete, rename = FileSystems.delete, FileSystems.rename

    def deletes(paths: list[str]) -> None:
        delete(paths)
        moved.append((Path(paths[0]).name, (tmp_path / "manifest.json").exists()))

    def renames(sources: list[str], targets: list[str]) -> None:
        rename(sources, targets)
        moved.append((Path(targets[0]).name, (tmp_path / "manifest.json").exists()))

    monkeypatch.setattr("beam.output.FileSystems.delete", deletes)
    monkeypatch.setattr("beam.output.FileSystems.rename", renames)
    finish(str(tmp_path))
    assert len(moved) == 2 * len(OURS)
    assert moved[0] == ("manifest.json", False) and moved[-1] == ("manifest.json", True)
    assert not any(is_whole for _, is_whole in moved[:-1])
