"""A file that is read again when somebody replaces it: certificates, tokens, the list of models."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tfrs_mmse.cli import CommandError, say

_Content = TypeVar("_Content")


class WatchedFile(Generic[_Content]):
    """What a file holds, as it was when it could last be used. Any number of threads may ask.

    A file that is gone, half written or wrong changes nothing, and is said once: what it held before stays in force.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], _Content],
        *,
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the file.

        Args:
            path: The file, or a link to it, as Kubernetes mounts secrets.
            read: Raises `CommandError` if the file cannot be used; an equal result stands for no change.
            seconds: Between two looks at it, at least; not positive: it is never read again.
            clock: For tests.

        Raises:
            CommandError: from `read`.
        """
        self._path, self._read = path, read
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._looked, self._seen = clock(), self._identity()
        self._content = read(path)

    @property
    def content(self) -> _Content:
        """What the file holds; the same object until it changes."""
        if self._seconds > 0 and self._clock() - self._looked >= self._seconds:
            with self._lock:
                self._look()
        return self._content

    def _look(self) -> None:
        self._looked = self._clock()
        identity = self._identity()
        if identity == self._seen:
            return
        self._seen = identity
        try:
            content = self._read(self._path)
        except CommandError as e:
            say(f"what {self._path} held stays in force: {e}")
            return
        if content != self._content:
            self._content = content
            say(f"read {self._path} again")

    def _identity(self) -> tuple[int, int, int] | None:
        """Changes when the file is replaced or written to."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
