"""Parts of tables on their way by files: what comes out is what went in, and only notes pass between the steps."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam import depot as depots
from beam.buckets import BucketFn, PerBucket
from beam.depot import DepositFn, fetch
from beam.tables import pack
from tfrs_mmse.cli import CommandError


def deposit(folder: Path, *bundles: list[bytes]) -> list[bytes]:
    """The notes of parts that one worker was given in these bundles."""
    fn, notes = DepositFn(str(folder)), []
    for bundle in bundles:
        for part in bundle:
            notes += [note for _, note in fn.process((0, part))]
        fn.finish_bundle()
    return notes


def test_parts_of_all_bundles_come_back_whole(tmp_path: Path) -> None:
    parts = [b"first", b"", b"\x00\n " * 5000, b"last"]
    notes = deposit(tmp_path, parts[:2], [], parts[2:])
    assert len(list(tmp_path.iterdir())) == 2  # a file a bundle that has any
    assert sorted(fetch(str(tmp_path), notes[::-1])) == sorted(parts)
    assert fetch(str(tmp_path), [notes[2]]) == [parts[2]]
    assert all(len(note) < 100 for note in notes)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CommandError, match=r"cannot write to .*File too large"):
            deposit(tmp_path, [b"x" * 100_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class ShowFn(BucketFn):
    """Gives the rows of a bucket and the length of the longest thing that travelled to it."""

    def __init__(self) -> None:
        super().__init__({"rows": {"n": pl.Int64}})

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        _, by_name = element
        travelled = max(
            (len(part) for name in by_name for part in by_name[name]), default=0
        )
        rows = sorted(tables["rows"]["n"])
        yield beam.pvalue.TaggedOutput("rows", (number, rows, travelled < 100))


@pytest.mark.parametrize("has_depot", [True, False])
def test_a_bucket_gets_the_same_tables_by_files_as_by_the_runner(
    tmp_path: Path, has_depot: bool
) -> None:
    halves = [
        pack(pl.DataFrame({"n": range(start, 1000, 2)}, schema={"n": pl.Int64}))
        for start in (0, 1)
    ]
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    sources = {
        f"rows.{n}": pipeline | f"Create{n}" >> beam.Create([(1, half)])
        for n, half in enumerate(halves)
    }
    shown = sources | PerBucket(
        ShowFn(),
        num_buckets=2,
        depot=str(tmp_path) if has_depot else None,
        outputs=["rows"],
    )
    assert_that(
        shown.rows, equal_to([(0, [], True), (1, list(range(1000)), has_depot)])
    )
    pipeline.run()
    assert bool(list(tmp_path.iterdir())) == has_depot


def test_a_depot_is_beside_the_output_and_goes_whatever_happens(tmp_path: Path) -> None:
    output = tmp_path / "out" / "_unfinished"
    with (
        pytest.raises(RuntimeError),
        depots.opened(str(output), []) as folder,
    ):
        assert folder is not None and Path(folder).parent == output
        deposit(Path(folder), [b"part"])
        raise RuntimeError
    assert list(output.iterdir()) == []


def test_a_depot_of_an_output_elsewhere_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with depots.opened("gs://bucket/out", []) as folder:
        assert folder is not None and Path(folder).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_distributed_runner_shuffles_by_itself(tmp_path: Path) -> None:
    with depots.opened(str(tmp_path / "out"), ["--runner=FlinkRunner"]) as folder:
        assert folder is None
    assert not (tmp_path / "out").exists()
