"""What waits together is computed together; what would wait too long is refused."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from serving.server.batcher import MAX_ROWS, Batcher
from serving.server.errors import RequestError, invalid
from serving.server.servable import Call
from tests.serving.serving_here import SlowServable


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class PickyServable(SlowServable):
    """Refuses batches with an empty query, at once."""

    def run(self, call: Call) -> list[np.ndarray]:
        self.go.set()
        if "" in [query.decode() for query in call.inputs[0]]:
            raise invalid("query is empty")
        return super().run(call)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def batcher(clock: Clock) -> Iterator[Batcher]:
    """Computes one batch at a time."""
    batcher = Batcher(num_threads=1, max_wait=1.0, clock=clock)
    yield batcher
    batcher.close()


def call(*queries: str, signature_name: str = "search") -> Call:
    values = np.array([query.encode() for query in queries], dtype=object)
    return Call(signature_name, (values,), ("score",))


async def entered(servable: SlowServable) -> None:
    """Waits until something is computed."""
    assert await asyncio.to_thread(servable.entered.wait, 60)


def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


def test_calls_that_come_while_all_threads_are_busy_are_computed_together(
    batcher: Batcher,
) -> None:
    servable = SlowServable()

    async def ask() -> list[list[float]]:
        first = start(batcher.run(servable, call("a")))
        await entered(servable)
        others = [
            start(batcher.run(servable, call(*q))) for q in (["bb"], ["ccc", "d"])
        ]
        await asyncio.sleep(0)
        servable.go.set()
        return [answer[0].tolist() for answer in await asyncio.gather(first, *others)]

    assert asyncio.run(ask()) == [[1.0], [2.0], [3.0, 1.0]]
    assert servable.batches == [["a"], ["bb", "ccc", "d"]]


def test_signatures_are_not_mixed_and_the_one_that_waits_longest_comes_first(
    batcher: Batcher,
) -> None:
    servable = SlowServable()

    async def ask() -> None:
        tasks = [start(batcher.run(servable, call("a")))]
        await entered(servable)
        for query, name in [("x1", "other"), ("b1", "search"), ("x2", "other")]:
            tasks.append(start(batcher.run(servable, call(query, signature_name=name))))
        await asyncio.sleep(0)
        servable.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert servable.batches == [["a"], ["x1", "x2"], ["b1"]]


def test_a_batch_has_so_many_rows_and_no_more_unless_one_call_has(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    sizes = [1, MAX_ROWS - 1, 1, MAX_ROWS + 7, 3]

    async def ask() -> None:
        tasks = [start(batcher.run(servable, call("first")))]
        await entered(servable)
        tasks += [start(batcher.run(servable, call(*["q"] * n))) for n in sizes]
        await asyncio.sleep(0)
        servable.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    assert [len(batch) for batch in servable.batches] == [
        1,
        MAX_ROWS,
        1,
        MAX_ROWS + 7,
        3,
    ]


def test_one_bad_request_costs_those_it_was_joined_with_nothing(
    batcher: Batcher,
) -> None:
    servable, slow = PickyServable(), SlowServable()

    async def ask() -> list[Any]:
        first = start(batcher.run(slow, call("a")))
        await entered(slow)
        tasks = [start(batcher.run(servable, call(q))) for q in ("bb", "", "ccc")]
        await asyncio.sleep(0)
        slow.go.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, bad, also_good = asyncio.run(ask())
    assert (good[0].tolist(), also_good[0].tolist()) == ([2.0], [3.0])
    assert isinstance(bad, RequestError)
    assert (bad.code, bad.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "query is empty",
    )


def test_what_is_too_late_or_has_nobody_waiting_is_not_computed(
    batcher: Batcher, clock: Clock
) -> None:
    servable = SlowServable()

    async def ask() -> list[Any]:
        first = start(batcher.run(servable, call("a")))
        await entered(servable)
        late = start(batcher.run(servable, call("late"), deadline=0.5))
        gone = start(batcher.run(servable, call("gone")))
        fine = start(batcher.run(servable, call("fine"), deadline=2.0))
        await asyncio.sleep(0)
        gone.cancel()
        clock.now = 1.0
        servable.go.set()
        return await asyncio.gather(first, late, gone, fine, return_exceptions=True)

    _, late, gone, fine = asyncio.run(ask())
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert isinstance(gone, asyncio.CancelledError)
    assert fine[0].tolist() == [4.0]
    assert servable.batches == [["a"], ["fine"]]


def test_what_would_wait_too_long_is_refused_before_it_waits(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row costs 0.4 s: three of them are more than the second that one may wait.
    monkeypatch.setattr(batcher, "_row_seconds", {"search": 0.4})
    servable = SlowServable()

    async def ask() -> tuple[list[Any], RequestError, RequestError]:
        tasks = [start(batcher.run(servable, call("first")))]
        await entered(servable)
        tasks.append(start(batcher.run(servable, call("b"))))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as impatient:
            await batcher.run(servable, call("now"), deadline=0.3)
        tasks.append(start(batcher.run(servable, call("c", "d"))))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as caught:
            await batcher.run(servable, call("e"))
        servable.go.set()
        return await asyncio.gather(*tasks), impatient.value, caught.value

    answers, impatient, refused = asyncio.run(ask())
    assert [answer[0].tolist() for answer in answers] == [[5.0], [1.0], [1.0, 1.0]]
    assert impatient.code is refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.message == (
        "the server is busy: the request would wait for about 1200 ms; ask again later"
    )


def test_a_thread_that_is_idle_takes_any_request_whatever_it_costs(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "_row_seconds", {"search": 100.0})
    servable = SlowServable()
    servable.go.set()
    for _ in range(3):
        assert asyncio.run(batcher.run(servable, call("q", "qq")))[0].tolist() == [
            1.0,
            2.0,
        ]


def test_a_bug_is_the_answer_to_its_batch_and_the_threads_go_on(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    servable.go.set()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(batcher.run(servable, call("bug")))
    assert asyncio.run(batcher.run(servable, call("q")))[0].tolist() == [1.0]
