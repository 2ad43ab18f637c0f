"""Requests that wait for a core are answered together; what would wait too long is refused at once."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc
import numpy as np

from serving.server.batches import can_join, join, split
from serving.server.errors import RequestError
from serving.server.servable import Call, Servable

MAX_ROWS = 64  # of a joined call; a request with more is computed alone
_NEWEST = 0.1  # weight of the newest batch in what a row is believed to cost


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
    answer: asyncio.Future[list[np.ndarray]]


class Batcher:
    """Runs calls in a few threads, several in one where they wait anyway.

    Nothing waits for a batch to fill: a call that finds a free thread is computed at once, alone; those that come
    while all are busy are computed together by the next that is free. So batches grow with the load and latency does
    not pay for them.

    A call is refused with RESOURCE_EXHAUSTED when those before it, at what such rows lately cost, would keep it
    waiting for longer than `max_wait` or than its own deadline. One whose deadline passes, or whose client goes away,
    while it waits is not computed.

    To be used from one event loop.
    """

    def __init__(
        self,
        *,
        num_threads: int,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts no thread before the first call.

        Args:
            num_threads: Batches computed at the same time.
            max_wait: Seconds.
            clock: For tests; what deadlines are measured by.
        """
        self._num_threads, self._max_wait, self._clock = num_threads, max_wait, clock
        self._num_idle = num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="search")
        self._waiting: dict[_Key, deque[_Waiting]] = {}
        self._backlog = 0.0  # seconds of one thread
        self._row_seconds: dict[str, float] = {}

    async def run(
        self, servable: Servable, call: Call, deadline: float = float("inf")
    ) -> list[np.ndarray]:
        """The outputs of a call, in its order.

        Args:
            servable: Must stay loaded until this returns.
            call: From its `check`.
            deadline: When the answer is of no use any more, by the clock.

        Raises:
            RequestError: RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED: it was not computed; else what `Servable.run` raises.
        """
        self._admit(deadline)
        loop = asyncio.get_running_loop()
        seconds = call.num_rows * self._row_seconds.get(call.signature_name, 0.0)
        waiting = _Waiting(servable, call, deadline, seconds, loop.create_future())
        joinable = can_join(call, servable.signature(call.signature_name))
        key = _Key(
            id(servable),
            call.signature_name,
            call.outputs,
            0 if joinable else id(waiting),
        )
        self._waiting.setdefault(key, deque()).append(waiting)
        self._backlog += seconds
        if self._num_idle:
            self._num_idle -= 1
            # After the requests that have arrived together with this one.
            loop.call_soon(self._start_next, loop)
        return await waiting.answer

    def close(self) -> None:
        """Waits for what is being computed."""
        self._threads.shutdown()

    def _admit(self, deadline: float) -> None:
        wait = 0.0 if self._num_idle else self._backlog / self._num_threads
        left = deadline - self._clock()
        if wait > min(self._max_wait, left):
            raise RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server is busy: the request would wait for about {wait * 1000:.0f} ms; ask again later",
            )

    def _start_next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        if batch:
            self._threads.submit(self._compute, batch, loop)
        else:
            self._num_idle += 1

    def _take(self) -> list[_Waiting]:
        """The calls that have waited longest and those that can be joined with them."""
        while self._waiting:
            key, queue = next(iter(self._waiting.items()))
            batch: list[_Waiting] = []
            num_rows = 0
            while queue and (
                not batch or num_rows + queue[0].call.num_rows <= MAX_ROWS
            ):
                waiting = queue.popleft()
                self._backlog -= waiting.seconds
                if waiting.answer.done():  # its client went away
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

    def _compute(self, batch: list[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: TensorFlow lets others run meanwhile."""
        start = time.perf_counter()
        answers = answer(batch[0].servable, [waiting.call for waiting in batch])
        loop.call_soon_threadsafe(
            self._finish, loop, batch, answers, time.perf_counter() - start
        )

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting],
        answers: Sequence[list[np.ndarray] | BaseException],
        seconds: float,
    ) -> None:
        name = batch[0].call.signature_name
        row_seconds = seconds / max(1, sum(w.call.num_rows for w in batch))
        before = self._row_seconds.get(name, row_seconds)
        self._row_seconds[name] = before + _NEWEST * (row_seconds - before)
        # The next batch first: a thread should not be idle while replies are written.
        self._start_next(loop)
        for waiting, result in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(result, BaseException):
                waiting.answer.set_exception(result)
            else:
                waiting.answer.set_result(result)


def answer(
    servable: Servable, calls: Sequence[Call]
) -> Sequence[list[np.ndarray] | BaseException]:
    """What each call gives, or raises. One that is refused costs those that it was joined with nothing but time."""
    try:
        joined = servable.run(join(calls))
        return split(calls, joined, servable.signature(calls[0].signature_name))
    except RequestError as e:
        if len(calls) == 1:
            return [e]
        return [result for call in calls for result in answer(servable, [call])]
    except Exception as e:  # a bug of ours is the answer to each, and the threads go on
        return [e] * len(calls)


def _too_late() -> RequestError:
    return RequestError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "the request waited past its deadline"
    )
