"""A version is loaded when it is whole and there is memory for it."""

import json
import shutil
from pathlib import Path

import grpc
import pytest

from serving.server.errors import RequestError
from serving.server.loading import load
from serving.server.saved_model import memory_needed
from tfrs_mmse import machine
from tfrs_mmse.cli import CommandError

VARIABLES = "variables/variables.data-00000-of-00001"


@pytest.fixture
def version(exact_version: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exact_version, tmp_path / "1"))


def test_the_manifest_names_every_other_file_with_its_bytes(version: Path) -> None:
    sizes = json.loads((version / "manifest.json").read_text())["files"]
    found = {
        str(path.relative_to(version)): path.stat().st_size
        for path in version.rglob("*")
        if path.is_file()
    }
    del found["manifest.json"]
    assert sizes == found
    assert {"saved_model.pb", VARIABLES} < sizes.keys()


@pytest.mark.parametrize("copied", [None, 10])
def test_a_version_that_is_still_being_copied_is_not_loaded(
    version: Path, copied: int | None
) -> None:
    path = version / VARIABLES
    whole = path.read_bytes()
    path.unlink()
    if copied is not None:
        path.write_bytes(whole[:copied])
    with pytest.raises(CommandError) as caught:
        load(version)
    assert str(caught.value) == (
        f"{version} is not whole: {VARIABLES} has {copied or 0} of {len(whole)} bytes; copy the rest, or export anew"
    )
    path.write_bytes(whole)
    load(version).close()


def test_a_version_needs_its_variables_and_a_little_more(version: Path) -> None:
    held = sum(path.stat().st_size for path in (version / "variables").iterdir())
    exact, scann = (
        memory_needed(version, {"index": {"kind": kind}}) for kind in ("exact", "scann")
    )
    assert held <= exact <= 1.5 * held
    # The searcher has its own.
    assert 2 * held <= scann <= 2.5 * held


def test_a_version_that_does_not_fit_is_refused_with_both_sizes(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 50_000_000)
    with pytest.raises(RequestError, match=r"needs about 0\.1 GB") as caught:
        load(version)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "but 0.1 GB are free" in caught.value.message
