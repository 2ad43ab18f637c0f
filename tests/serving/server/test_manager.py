"""Which version is served, with versions that cost nothing to load."""

from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from serving.server.errors import RequestError
from serving.server.manager import VersionManager
from serving.server.model_config import ModelConfig, VersionPolicy
from tfrs_mmse.cli import CommandError

AVAILABLE, UNLOADING, END = 30, 40, 50


class FakeServable:
    """Says which content it was loaded from."""

    loaded: ClassVar[list[str]] = []

    def __init__(self, directory: Path) -> None:
        self.content = (directory / "content").read_text()
        self.closed = False
        self.loaded.append(self.content)
        if self.content == "broken":
            raise CommandError("it is broken")
        if self.content == "bug":
            raise ZeroDivisionError("by zero\nat length")

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    FakeServable.loaded.clear()
    return VersionManager(ModelConfig("shop", tmp_path), load=FakeServable)  # type: ignore[arg-type]


def write(base_path: Path, version: int, content: str = "fine") -> None:
    (base_path / str(version)).mkdir(exist_ok=True)
    (base_path / str(version) / "content").write_text(content)


def states(manager: VersionManager) -> dict[int, tuple[int, str]]:
    return {
        version: (state, message)
        for version, (state, _, message) in manager.states().items()
    }


def test_the_newest_number_is_served_not_the_last_in_the_alphabet(
    manager: VersionManager, tmp_path: Path
) -> None:
    for version in (2, 10, 9):
        write(tmp_path, version)
    manager.refresh()
    assert manager.versions == [10]
    assert states(manager) == {10: (AVAILABLE, "")}


def test_an_old_version_is_unloaded_after_its_last_request(
    manager: VersionManager, tmp_path: Path
) -> None:
    write(tmp_path, 1)
    manager.refresh()
    with manager.acquire(None) as lease, manager.acquire(1):
        old = lease.servable
        write(tmp_path, 2)
        manager.refresh()
        assert (lease.version, manager.versions) == (1, [2])
        assert states(manager) == {1: (UNLOADING, ""), 2: (AVAILABLE, "")}
        assert not old.closed  # type: ignore[attr-defined]
        with manager.acquire(None) as second:
            assert second.version == 2
        with (
            pytest.raises(RequestError, match=r"Specific\(shop, 1\)") as caught,
            manager.acquire(1),
        ):
            pass
        assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert old.closed  # type: ignore[attr-defined]
    assert states(manager) == {1: (END, ""), 2: (AVAILABLE, "")}


def test_a_broken_version_is_refused_until_it_is_replaced(
    manager: VersionManager, tmp_path: Path
) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, "broken")
    manager.refresh()
    assert manager.versions == [1]
    assert states(manager) == {1: (AVAILABLE, ""), 2: (END, "it is broken")}
    manager.refresh()
    assert FakeServable.loaded == ["broken", "fine"]  # tried once
    write(tmp_path, 2, "mended")
    manager.refresh()
    assert manager.versions == [2]
    assert states(manager) == {1: (END, ""), 2: (AVAILABLE, "")}


def test_a_version_that_fails_in_an_unforeseen_way_is_refused_too(
    manager: VersionManager, tmp_path: Path
) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, "bug")
    manager.refresh()
    assert manager.versions == [1]
    assert states(manager)[2] == (
        END,
        f"{tmp_path}/2 cannot be loaded (ZeroDivisionError: by zero)",
    )


def test_a_served_version_that_is_replaced_by_a_broken_one_goes_on(
    manager: VersionManager, tmp_path: Path
) -> None:
    write(tmp_path, 1)
    manager.refresh()
    write(tmp_path, 1, "broken")
    manager.refresh()
    with manager.acquire(None) as lease:
        assert lease.servable.content == "fine"  # type: ignore[attr-defined]
    assert states(manager) == {1: (AVAILABLE, "it is broken")}
    write(tmp_path, 1, "another")
    manager.refresh()
    with manager.acquire(None) as lease:
        assert lease.servable.content == "another"  # type: ignore[attr-defined]
    assert states(manager) == {1: (AVAILABLE, "")}


def test_an_empty_base_path_leaves_what_is_served(
    manager: VersionManager, tmp_path: Path
) -> None:
    write(tmp_path, 1)
    manager.refresh()
    (tmp_path / "1" / "content").unlink()
    (tmp_path / "1").rmdir()
    manager.refresh()
    assert manager.versions == [1]


def test_before_anything_is_loaded_nothing_is_found(manager: VersionManager) -> None:
    manager.refresh()
    with (
        pytest.raises(
            RequestError, match=r"Servable not found for request: Latest\(shop\)"
        ),
        manager.acquire(None),
    ):
        pass


def test_closing_unloads(manager: VersionManager, tmp_path: Path) -> None:
    write(tmp_path, 1)
    manager.refresh()
    with manager.acquire(None) as lease:
        servable = lease.servable
        manager.close()
        assert not servable.closed  # type: ignore[attr-defined]
    assert servable.closed  # type: ignore[attr-defined]
    assert manager.versions == []


def test_a_policy_keeps_the_newest_few_that_can_be_loaded(
    manager: VersionManager, tmp_path: Path
) -> None:
    manager.config = ModelConfig("shop", tmp_path, VersionPolicy(2))
    for version, content in [(1, "fine"), (2, "fine"), (3, "broken"), (4, "fine")]:
        write(tmp_path, version, content)
    manager.refresh()
    assert manager.versions == [4, 2]
    write(tmp_path, 5)
    manager.refresh()
    assert manager.versions == [5, 4]
    with manager.acquire() as newest, manager.acquire(4) as older:
        assert (newest.version, older.version) == (5, 4)


def test_specific_versions_are_served_and_no_others(
    manager: VersionManager, tmp_path: Path
) -> None:
    manager.config = ModelConfig(
        "shop", tmp_path, VersionPolicy(None, frozenset({1, 3}))
    )
    for version in (1, 2, 3, 4):
        write(tmp_path, version)
    manager.refresh()
    assert manager.versions == [3, 1]
    assert 4 not in states(manager)


def test_a_label_stands_for_a_version(manager: VersionManager, tmp_path: Path) -> None:
    labels = {"stable": 1, "canary": 2, "next": 3}
    manager.config = ModelConfig("shop", tmp_path, VersionPolicy(None), labels)
    write(tmp_path, 1)
    write(tmp_path, 2)
    manager.refresh()
    with manager.acquire(label="stable") as lease:
        assert lease.version == 1
    manager.config = ModelConfig("shop", tmp_path, VersionPolicy(None), {"stable": 2})
    with manager.acquire(label="stable") as lease:  # to promote the canary
        assert lease.version == 2
    manager.config = ModelConfig("shop", tmp_path, VersionPolicy(None), labels)
    for label, message, code in [
        ("next", r"Specific\(shop, 3\)", grpc.StatusCode.NOT_FOUND),
        (
            "other",
            "Unrecognized servable version label: other",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ]:
        with (
            pytest.raises(RequestError, match=message) as caught,
            manager.acquire(label=label),
        ):
            pass
        assert caught.value.code is code


def test_a_version_for_which_there_is_no_memory_is_tried_until_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight = True

    def load(directory: Path) -> Any:
        if tight and directory.name == "2":
            raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too little memory")
        return FakeServable(directory)

    manager = VersionManager(ModelConfig("shop", tmp_path), load=load)
    write(tmp_path, 1)
    manager.refresh()
    write(tmp_path, 2)
    for _ in range(3):
        manager.refresh()
        assert manager.versions == [1]
        assert states(manager)[2] == (END, "too little memory")
    assert capsys.readouterr().err.count("too little memory") == 1
    tight = False
    manager.refresh()
    assert manager.versions == [2]
    assert states(manager) == {1: (END, ""), 2: (AVAILABLE, "")}


def test_a_bad_moment_of_the_file_system_changes_nothing(
    manager: VersionManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    manager.refresh()

    def fail(_: Path) -> list[int]:
        raise OSError("Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("serving.server.manager.list_versions", fail)
        manager.refresh()
        manager.refresh()
    said = "cannot look for versions of shop: Stale file handle\n"
    assert capsys.readouterr().err.count(said) == 1
    # A file that cannot be looked at, though the version is there.
    (tmp_path / "2/gone").symlink_to(tmp_path / "nowhere")
    manager.refresh()
    assert manager.versions == [2]
    assert states(manager)[2] == (AVAILABLE, "")
