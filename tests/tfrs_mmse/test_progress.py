"""What a person sees while a training goes on: one bar, or a line an epoch where nobody watches."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tfrs_mmse.early_stopping import RECALL
from tfrs_mmse.progress import MetricsLog, ProgressBar, shown

LOSSES = {"retrieval_loss": 4.36211, "ranking_loss": 0.51234}


def test_only_what_a_person_looks_at_is_shown() -> None:
    values = {"epoch": 3, **LOSSES, "fusion/word": 0.5, RECALL: 0.61}
    assert shown(values) == "retrieval 4.362, ranking 0.5123, recall@10 0.61"


def test_without_a_terminal_there_is_a_line_an_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = ProgressBar(done=1, num_steps=6, steps_per_epoch=2)
    for step in range(2, 7):
        recall = step / 10 if step > 2 else None
        bar.after_step(step, LOSSES, learning_rate=0.1, recall=recall)
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    losses, rate = "retrieval 4.362, ranking 0.5123", "lr 0.1"
    speed = r", [\d.]+ steps/s, \d\d:\d\d left"
    assert re.fullmatch(f"epoch 1/3: {losses}, {rate}{speed}", first)
    assert re.fullmatch(rf"epoch 2/3: {losses}, recall@10 0\.4, {rate}{speed}", second)
    assert re.fullmatch(rf"epoch 3/3: {losses}, recall@10 0\.6, {rate}{speed}", third)
    assert third.endswith("00:00 left")


PROGRAM = """
from tfrs_mmse.progress import ProgressBar
bar = ProgressBar(done=123_400, num_steps=360_000, steps_per_epoch=30_000)
bar._bar.mininterval = 0
for step in range(123_401, 123_421):
    losses = {"retrieval_loss": 4.3621, "ranking_loss": 0.5123}
    bar.after_step(step, losses, learning_rate=0.1, recall=0.512)
bar.close()
"""


def on_a_terminal(columns: int) -> str:
    """What the program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stderr=theirs, stdout=theirs, cwd=root) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 1 << 16):
                written += part
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_there_is_one_line_that_fits(columns: int) -> None:
    written = on_a_terminal(columns)
    assert written.count("\n") == 1 and written.endswith("\n")
    states = [state for state in written.split("\r") if state.strip()]
    assert len(states) > 10
    assert max(len(state) for state in states) < columns
    wanted = (
        r"epoch 5/12 34% [\d.]+ steps?/s [\d:]+ left, retrieval 4.362, ranking 0.5123"
    )
    if columns == 120:
        wanted += r", recall@10 0.512, lr 0.1"
    assert re.match(wanted, states[-1])


def test_entries_of_epochs_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep=0)
    assert log.last == {}
    for epoch in (1, 2, 3):
        log.append(epoch, {"retrieval_loss": epoch / 10})
    # A kill in the middle of a line.
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-5])
    assert MetricsLog(tmp_path, keep=2).entries == log.entries[:2]
