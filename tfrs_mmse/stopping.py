"""Ends a training that is told to stop (Ctrl-C, SIGTERM) after a step, with a checkpoint, and not inside one."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

from tfrs_mmse.cli import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While it is entered, a signal raises `Stopped`; inside `patient`, not before `obey`, but the second one does.

    Signals come to the main thread, and only there can it be entered. One that was never entered asks for nothing.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._is_patient = False

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def is_asked_for(self) -> bool:
        """Whether a signal has come."""
        return self._asked is not None

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """A block that is left by `obey` and not by the signal itself."""
        self._is_patient = True
        try:
            yield
        finally:
            self._is_patient = False

    def obey(self, after: str) -> None:
        """Ends the command if a signal has come.

        Args:
            after: What has been done, for the sentence.

        Raises:
            Stopped: a signal has come.
        """
        if self._asked is not None:
            raise Stopped(self._asked, after)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_first, self._asked = self._asked is None, signal.Signals(number)
        if not (self._is_patient and is_first):
            raise Stopped(self._asked, "at once, before the next checkpoint")
