"""What a server learns from a file that changes under it."""

from pathlib import Path

import pytest

from serving.server.watched_file import WatchedFile
from tfrs_mmse.cli import CommandError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        raise CommandError(f"{path.name} holds no number") from None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("1")
    return path


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_a_file_is_read_again_when_it_was_replaced_and_some_time_has_passed(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    file = WatchedFile(path, number, seconds=2.0, clock=clock)
    replace(path, "2")
    for clock.now, held in ((1.9, 1), (2.0, 2), (9.0, 2)):
        assert file.content == held
    assert capsys.readouterr().err == f"read {path} again\n"
    replace(path, "2")  # the same in another file
    clock.now = 20.0
    assert file.content == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", ["", "one", None])
def test_what_cannot_be_used_changes_nothing_and_is_said_once(
    path: Path, wrong: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    file = WatchedFile(path, number, clock=clock)
    if wrong is None:
        path.unlink()
    else:
        replace(path, wrong)
    for clock.now in (1.0, 2.0, 3.0):
        assert file.content == 1
    assert capsys.readouterr().err == (
        f"what {path} held stays in force: file holds no number\n"
    )
    replace(path, "3")
    clock.now = 4.0
    assert file.content == 3


def test_a_link_may_be_pointed_elsewhere(path: Path, tmp_path: Path) -> None:
    # As Kubernetes replaces a mounted secret.
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("2")
    link.symlink_to(path)
    clock = Clock()
    file = WatchedFile(link, number, clock=clock)
    link.unlink()
    link.symlink_to(other)
    clock.now = 1.0
    assert file.content == 2


def test_a_file_need_not_be_watched(path: Path) -> None:
    clock = Clock()
    file = WatchedFile(path, number, seconds=0.0, clock=clock)
    replace(path, "2")
    clock.now = 1e6
    assert file.content == 1


def test_a_file_that_cannot_be_used_at_first_is_refused(path: Path) -> None:
    path.write_text("one")
    with pytest.raises(CommandError, match="file holds no number"):
        WatchedFile(path, number)
