import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tfrs_mmse import cli


def failing(error: BaseException) -> Callable[..., int]:
    @cli.command
    def main(argv: object = None) -> None:
        raise error

    return main


def test_a_command_that_ends_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command
    def main(argv: object = None) -> None:
        cli.say("working")
        cli.print_result({"título": [1]})

    assert main([]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"título": [1]}
    assert err == "working\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (cli.CommandError("expected 1, got 2"), "expected 1, got 2"),
        (
            FileNotFoundError(2, os.strerror(2), "a.txt"),
            "No such file or directory: a.txt",
        ),
        (OSError("disk is on fire"), "disk is on fire"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_what_the_caller_can_put_right_is_one_sentence(
    error: BaseException, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error)([]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {sentence}\n")


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())([])


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    @cli.command
    def main(argv: object = None) -> None:
        Path("/dev/full").write_text("x")

    assert main([]) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
