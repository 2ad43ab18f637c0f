"""Simulated logs of several sizes, in the form that suits everybody."""

import gzip
import itertools
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

NUM_FILES = 8
_READ_LINES = 100_000


class Log(NamedTuple):
    """A log and its catalogue, as plain JSONL.

    Attributes:
        events: The pattern of the event files, which have about the same size.
        items: The catalogue's file.
        num_events: Rows of all event files.
        num_items: Rows of the catalogue.
        num_bytes: Of all these files.
    """

    events: str
    items: Path
    num_events: int
    num_items: int
    num_bytes: int


def simulate(folder: Path, *, num_requests: int, num_items: int) -> Log:
    """Simulates a log, with 25 events a request or so.

    Plain files, because Polars reads a compressed one in one piece, and several, because the element-wise pipeline
    gives each file to one worker; ours would do as well with one.

    Raises:
        CalledProcessError: the simulator failed; what it says is on stderr.
    """
    flags = {"--output": folder, "--requests": num_requests, "--items": num_items}
    words = [str(word) for pair in flags.items() for word in pair]
    # In a process of its own, which takes its memory with it.
    subprocess.run(
        [sys.executable, "-m", "beam.simulate", *words, "--seed", "0"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    num_events = _unpack(folder / "events.jsonl.gz", folder, "events", NUM_FILES)
    num_items = _unpack(folder / "items.jsonl.gz", folder, "items", 1)
    (folder / "truth.parquet").unlink()
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
    items = folder / "items-0.jsonl"
    return Log(str(folder / "events-*.jsonl"), items, num_events, num_items, num_bytes)


def _unpack(packed: Path, folder: Path, name: str, num_files: int) -> int:
    """Deals the lines of a file out to several plain ones, in long runs. Gives their number, and deletes the file."""
    with gzip.open(packed, "rb") as lines:
        total = sum(1 for _ in lines)
    share = -(-total // num_files)
    with gzip.open(packed, "rb") as lines:
        for number in range(num_files):
            with (folder / f"{name}-{number}.jsonl").open("wb") as file:
                for start in range(0, share, _READ_LINES):
                    run = min(_READ_LINES, share - start)
                    file.writelines(itertools.islice(lines, run))
    packed.unlink()
    return total
