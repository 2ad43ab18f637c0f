"""What waits together is computed together; what would wait too long is refused."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import grpc
import numpy as np
import pytest

from serving.server.batcher import MAX_ROWS, Arrays, Batcher, answer
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


def occupy(batcher: Batcher, servable: SlowServable, query: str) -> Future[Arrays]:
    """Has the only thread compute something that does not end before `servable.go` is set."""
    answer = batcher.submit(servable, call(query))
    assert servable.entered.wait(60)
    return answer


def scores(answer: Future[Arrays]) -> list[float]:
    return answer.result(60)[0].tolist()


def test_calls_that_come_while_all_threads_are_busy_are_computed_together(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    answers = [occupy(batcher, servable, "a")]
    answers += [batcher.submit(servable, call(*q)) for q in (["bb"], ["ccc", "d"])]
    servable.go.set()
    assert [scores(answer) for answer in answers] == [[1.0], [2.0], [3.0, 1.0]]
    assert servable.batches == [["a"], ["bb", "ccc", "d"]]


def test_signatures_are_not_mixed_and_the_one_that_waits_longest_comes_first(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    answers = [occupy(batcher, servable, "a")]
    for query, name in [("x1", "other"), ("b1", "search"), ("x2", "other")]:
        answers.append(batcher.submit(servable, call(query, signature_name=name)))
    servable.go.set()
    assert [scores(answer) for answer in answers] == [[1.0], [2.0], [2.0], [2.0]]
    assert servable.batches == [["a"], ["x1", "x2"], ["b1"]]


def test_a_batch_has_so_many_rows_and_no_more_unless_one_call_has(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    sizes = [1, MAX_ROWS - 1, 1, MAX_ROWS + 7, 3]
    answers = [occupy(batcher, servable, "first")]
    answers += [batcher.submit(servable, call(*["q"] * n)) for n in sizes]
    servable.go.set()
    assert [len(scores(answer)) for answer in answers] == [1, *sizes]
    assert [len(batch) for batch in servable.batches] == [
        *(1, MAX_ROWS, 1, MAX_ROWS + 7, 3)
    ]


def test_one_bad_request_costs_those_it_was_joined_with_nothing(
    batcher: Batcher,
) -> None:
    servable, slow = PickyServable(), SlowServable()
    occupy(batcher, slow, "a")
    good, bad, also_good = (
        batcher.submit(servable, call(query)) for query in ("bb", "", "ccc")
    )
    slow.go.set()
    assert (scores(good), scores(also_good)) == ([2.0], [3.0])
    with pytest.raises(RequestError) as caught:
        bad.result(60)
    assert (caught.value.code, caught.value.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "query is empty",
    )


def test_one_bad_request_among_many_costs_few_computations() -> None:
    servable = PickyServable()
    calls = [call("" if number == 17 else f"q{number}") for number in range(64)]
    answers = answer(servable, calls)
    assert [isinstance(a, RequestError) for a in answers] == [
        number == 17 for number in range(64)
    ]
    # Each half of the batch, of the half that is refused, and so on; refused ones are not in this list.
    assert len(servable.batches) == 6
    assert sorted(map(len, servable.batches)) == [1, 2, 4, 8, 16, 32]


def test_what_is_too_late_or_has_nobody_waiting_is_not_computed(
    batcher: Batcher, clock: Clock
) -> None:
    servable = SlowServable()
    occupy(batcher, servable, "a")
    late = batcher.submit(servable, call("late"), deadline=0.5)
    gone = batcher.submit(servable, call("gone"))
    fine = batcher.submit(servable, call("fine"), deadline=2.0)
    assert gone.cancel()
    clock.now = 1.0
    servable.go.set()
    with pytest.raises(RequestError) as caught:
        late.result(60)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(CancelledError):
        gone.result(60)
    assert scores(fine) == [4.0]
    assert servable.batches == [["a"], ["fine"]]


def test_what_would_wait_too_long_is_refused_before_it_waits(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row costs 0.4 s: three of them are more than the second that one may wait.
    servable = SlowServable()
    costs = {servable: {"search": 0.4}, SlowServable(): {"search": 100.0}}
    monkeypatch.setattr(batcher, "_row_seconds", costs)
    answers = [occupy(batcher, servable, "first")]
    answers.append(batcher.submit(servable, call("b")))
    # It would be answered, but the estimate may not be wrong by more than a factor of two.
    with pytest.raises(RequestError) as impatient:
        batcher.submit(servable, call("now"), deadline=0.7)
    answers.append(batcher.submit(servable, call("c", "d"), deadline=0.9))
    with pytest.raises(RequestError) as caught:
        batcher.submit(servable, call("e"))
    servable.go.set()
    assert [scores(answer) for answer in answers] == [[5.0], [1.0], [1.0, 1.0]]
    refused = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert impatient.value.code is caught.value.code is refused
    assert caught.value.message == (
        "the server is busy: the request would wait for about 1200 ms; ask again later"
    )


def test_what_waited_elsewhere_counts_even_if_a_thread_is_idle(
    batcher: Batcher,
) -> None:
    batcher.admit(deadline=1.0, waited=0.4)
    for deadline, waited in [(1.0, 0.6), (float("inf"), 1.1)]:
        with pytest.raises(RequestError) as caught:
            batcher.admit(deadline=deadline, waited=waited)
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_thread_that_is_idle_takes_any_request_whatever_it_costs(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    servable = SlowServable()
    monkeypatch.setattr(batcher, "_row_seconds", {servable: {"search": 100.0}})
    servable.go.set()
    for _ in range(3):
        assert scores(batcher.submit(servable, call("q", "qq"))) == [1.0, 2.0]


def test_a_bug_is_the_answer_to_its_batch_and_the_threads_go_on(
    batcher: Batcher,
) -> None:
    servable = SlowServable()
    servable.go.set()
    with pytest.raises(ZeroDivisionError):
        batcher.submit(servable, call("bug")).result(60)
    assert scores(batcher.submit(servable, call("q"))) == [1.0]


def test_closing_waits_for_what_waits(clock: Clock) -> None:
    batcher, servable = (
        Batcher(num_threads=2, max_wait=1.0, clock=clock),
        SlowServable(),
    )
    servable.go.set()
    answers = [batcher.submit(servable, call(f"q{n}")) for n in range(20)]
    batcher.close()
    assert all(answer.done() for answer in answers)
