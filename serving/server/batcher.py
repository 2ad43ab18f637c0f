"""Requests that wait for a core are answered together; what would wait too long is refused at once."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple
from weakref import WeakKeyDictionary

import grpc
import numpy as np

from serving.server.batches import can_join, join, split
from serving.server.errors import RequestError
from serving.server.servable import Call, Servable

MAX_ROWS = 64  # of a joined call; a request with more is computed alone
_NEWEST = 0.3  # weight of the newest batch in what a row is believed to cost; less, if it is a small one and says: more
# Rows that a smaller batch counts as: what it costs beside its rows is shared by more of them when there is a queue.
_FEW = 8

Arrays = list[np.ndarray]


class _Key(NamedTuple):
    """What calls must have in common to be joined; `alone` tells those apart that must not be."""

    servable: int
    signature_name: str
    outputs: tuple[str, ...]
    alone: int


class _Waiting(NamedTuple):
    servable: Servable
    call: Call
    deadline: float
    seconds: float
    answer: Future[Arrays]


class Batcher:
    """Runs calls in a few threads, several in one where they wait anyway.

    Nothing waits for a batch to fill: a call that finds a free thread is computed at once, alone; those that come
    while all are busy are computed together by the next that is free. So batches grow with the load and latency does
    not pay for them.

    A call is refused with RESOURCE_EXHAUSTED when those before it, at what such rows lately cost, would keep it
    waiting for longer than `max_wait` or than half of the time that it has: answers that just miss their deadlines
    help nobody, and cost what would have been answered in time. One whose deadline passes, or that is cancelled, while
    it waits is not computed.

    May be used from any thread.
    """

    def __init__(
        self,
        *,
        num_threads: int,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the threads.

        Args:
            num_threads: Batches computed at the same time.
            max_wait: Seconds.
            clock: For tests; what deadlines are measured by.
        """
        self._max_wait, self._clock = max_wait, clock
        self._changed = threading.Condition()
        self._waiting: dict[_Key, deque[_Waiting]] = {}
        self._backlog = 0.0  # seconds of one thread
        self._num_idle = 0
        self._is_closed = False
        # By the servable's signature; gone with the servable.
        self._row_seconds = WeakKeyDictionary[Servable, dict[str, float]]()
        self._threads = [
            threading.Thread(target=self._work, name="search", daemon=True)
            for _ in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def admit(self, deadline: float, waited: float = 0.0) -> None:
        """Refuses at once what `submit` would refuse.

        Args:
            deadline: See `submit`.
            waited: Seconds that calls wait before they come here.

        Raises:
            RequestError: RESOURCE_EXHAUSTED: it would wait too long.
        """
        wait = waited
        if self._waiting or not self._num_idle:
            wait += self._backlog / len(self._threads)
        left = deadline - self._clock()
        if wait > min(self._max_wait, left / 2):
            raise RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server is busy: the request would wait for about {wait * 1000:.0f} ms; ask again later",
            )

    def submit(
        self, servable: Servable, call: Call, deadline: float = float("inf")
    ) -> Future[Arrays]:
        """Has a call computed.

        Args:
            servable: Must stay loaded until the answer is there.
            call: From its `check`.
            deadline: When the answer is of no use any more, by the clock.

        Returns:
            The outputs of the call, in its order; or a RequestError: DEADLINE_EXCEEDED if it was not computed, else
            what `Servable.run` raises. Its callbacks are called by the thread that computed it.

        Raises:
            RequestError: RESOURCE_EXHAUSTED: it would wait too long.
        """
        answer: Future[Arrays] = Future()
        joinable = can_join(call, servable.signature(call.signature_name))
        key = _Key(
            id(servable),
            call.signature_name,
            call.outputs,
            0 if joinable else id(answer),
        )
        with self._changed:
            self.admit(deadline)
            costs = self._row_seconds.setdefault(servable, {})
            seconds = call.num_rows * costs.get(call.signature_name, 0.0)
            waiting = _Waiting(servable, call, deadline, seconds, answer)
            self._waiting.setdefault(key, deque()).append(waiting)
            self._backlog += seconds
            self._changed.notify()
        return answer

    def close(self) -> None:
        """Waits for what is being computed, and for what waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._compute_next():  # whose variables do not outlive it
            pass

    def _compute_next(self) -> bool:
        """Computes and answers a batch; False when there will be none any more."""
        batch = self._next()
        if not batch:
            return False
        start = time.perf_counter()
        servable, calls = batch[0].servable, [waiting.call for waiting in batch]
        for waiting, result in zip(batch, answer(servable, calls), strict=True):
            if isinstance(result, BaseException):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)
        self._learn(servable, calls, time.perf_counter() - start)
        return True

    def _next(self) -> list[_Waiting]:
        """The calls that have waited longest and those that can be joined with them; none when it is closed."""
        with self._changed:
            while not (batch := self._take()) and not self._is_closed:
                self._num_idle += 1
                self._changed.wait()
                self._num_idle -= 1
            return batch

    def _take(self) -> list[_Waiting]:
        while self._waiting:
            key, queue = next(iter(self._waiting.items()))
            batch: list[_Waiting] = []
            num_rows = 0
            while queue and (
                not batch or num_rows + queue[0].call.num_rows <= MAX_ROWS
            ):
                waiting = queue.popleft()
                self._backlog -= waiting.seconds
                if not waiting.answer.set_running_or_notify_cancel():
                    continue
                if waiting.deadline <= self._clock():
                    waiting.answer.set_exception(_too_late())
                    continue
                batch.append(waiting)
                num_rows += waiting.call.num_rows
            del self._waiting[key]
            if queue:  # the others of this kind come after all that wait now
                self._waiting[key] = queue
            if batch:
                return batch
        self._backlog = 0.0  # not what rounding left of it
        return []

    def _learn(self, servable: Servable, calls: Sequence[Call], seconds: float) -> None:
        """Notes what rows lately cost, their answers included."""
        name = calls[0].signature_name
        num_rows = sum(call.num_rows for call in calls)
        newest = seconds / max(num_rows, _FEW)
        with self._changed:
            costs = self._row_seconds.setdefault(servable, {})
            before = costs.get(name, newest)
            share = 1.0 if newest < before else min(1.0, num_rows / MAX_ROWS)
            costs[name] = before + _NEWEST * share * (newest - before)


def answer(
    servable: Servable, calls: Sequence[Call]
) -> Sequence[Arrays | BaseException]:
    """What each call gives, or raises. One that is refused costs those that it was joined with nothing but time."""
    try:
        joined = servable.run(join(calls))
        return split(calls, joined, servable.signature(calls[0].signature_name))
    except RequestError as e:
        if len(calls) == 1:
            return [e]
        half = len(calls) // 2  # a few that are refused cost few more computations
        return [*answer(servable, calls[:half]), *answer(servable, calls[half:])]
    except Exception as e:  # a bug of ours is the answer to each, and the threads go on
        return [e] * len(calls)


def _too_late() -> RequestError:
    return RequestError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "the request waited past its deadline"
    )
