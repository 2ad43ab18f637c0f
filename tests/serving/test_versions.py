"""Version directories on disk."""

from pathlib import Path

import pytest

from serving.versions import list_versions, publish


def test_only_directories_with_plain_numbers_are_versions(tmp_path: Path) -> None:
    for name in ("3", "20", ".tmp-5", "007", "-1", "1.5", "٣", "x"):
        (tmp_path / name).mkdir()
    (tmp_path / "40").touch()
    assert list_versions(tmp_path) == [20, 3]
    assert list_versions(tmp_path / "nowhere") == []


def test_publishing_takes_the_next_number_and_moves_all_files(tmp_path: Path) -> None:
    (tmp_path / "9").mkdir()
    new = tmp_path / ".tmp-1"
    (new / "variables").mkdir(parents=True)
    (new / "variables" / "data").write_text("x")
    assert publish(new, tmp_path) == tmp_path / "10"
    assert (tmp_path / "10" / "variables" / "data").read_text() == "x"
    assert not new.exists()


def test_a_number_taken_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looked before the other export published.
    monkeypatch.setattr("serving.versions.list_versions", lambda _: [])
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "theirs").touch()
    (tmp_path / ".tmp-1").mkdir()
    assert publish(tmp_path / ".tmp-1", tmp_path) == tmp_path / "2"
    assert (tmp_path / "1" / "theirs").exists()
