"""A place on this machine's disk for the parts of tables, so that only notes of where they lie pass between the steps.

Beam's local runner keeps what passes between two steps in its own memory, and hands each worker its share of that in
one piece. With a depot that is some dozen bytes a part, and what a worker holds is one bucket, however large the log.
A distributed runner has a shuffle of its own, and workers that share no disk: it needs no depot.
"""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam.local import is_local
from beam.tables import Part
from tfrs_mmse.cli import CommandError

_FOLDER = "parts"


@contextlib.contextmanager
def opened(output: str, flags: Sequence[str]) -> Iterator[str | None]:
    """A folder for a depot, removed at the end with what is in it; None if a distributed runner is asked for.

    Args:
        output: The folder that the run writes to. The depot is in it: a disk with room for the records has room for
            their parts. If it is not on this machine, the depot is where temporary files are (`TMPDIR`).
        flags: Pipeline options, as on the command line.
    """
    if not is_local(flags):
        yield None
        return
    if FileSystems.get_scheme(output):
        folder = tempfile.mkdtemp()
    else:
        folder = str(Path(output, _FOLDER))
        Path(folder).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class DepositFn(beam.DoFn):
    """Puts parts into a file, and notes on in their place."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder
        self._file: IO[bytes] | None = None

    def process(self, element: Part) -> Iterator[Part]:
        number, part = element
        with self._said():
            if self._file is None:
                path = Path(self._folder, uuid.uuid4().hex)
                self._file = path.open("xb")
            offset = self._file.tell()
            self._file.write(part)
        yield number, f"{Path(self._file.name).name} {offset} {len(part)}".encode()

    def finish_bundle(self) -> None:
        if self._file is not None:
            with self._said():
                self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise CommandError(
                f"cannot write to {self._folder}, where the parts of the log lie until they are together: {e}"
            ) from None


def fetch(folder: str, notes: Iterable[bytes]) -> list[bytes]:
    """The parts that these notes stand for, in no order that can be relied on."""
    places: dict[str, list[tuple[int, ...]]] = {}
    for note in notes:
        name, *place = note.decode().split()
        places.setdefault(name, []).append(tuple(map(int, place)))
    parts = []
    for name in places:
        with Path(folder, name).open("rb") as file:
            for offset, size in places[name]:
                file.seek(offset)
                parts.append(file.read(size))
    return parts
