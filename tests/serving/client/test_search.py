"""Both clients, for threads and for asyncio, with fakes for everything around them: searches, delays, failures."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.client import (
    AsyncSearchClient,
    Hit,
    QueryResult,
    RetryPolicy,
    SearchClient,
    SearchError,
    SearchReply,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NO_SIGNATURE = grpc.StatusCode.FAILED_PRECONDITION


class FakeRpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self.code, self.details = lambda: code, lambda: "the reason"


class World:
    """A server that fails a few times before it answers, the time that passes, and dice."""

    def __init__(
        self,
        *failures: grpc.StatusCode,
        duration: float = 0.0,
        dice: tuple[float, ...] = (1.0,) * 9,
    ) -> None:
        self.failures, self.duration, self.now = list(failures), duration, 100.0
        self.dice = list(dice)
        self.timeouts: list[float] = []
        self.pauses: list[float] = []
        self.requests: list[predict_pb2.PredictRequest] = []
        self.width, self.filtered = 3, True

    def predict(self, request: Any, *, timeout: float, metadata: Any) -> Any:
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.now += self.duration
        if self.failures:
            raise FakeRpcError(self.failures.pop(0))
        width, more = self.width, {}
        if request.model_spec.signature_name == "search_filtered":
            if not self.filtered:
                raise FakeRpcError(NO_SIGNATURE)
            width = max(request.inputs["k"].int_val)
            more = {"num_matching": tf.constant([8] * rows_of(request), tf.int64)}
        ids = [f"i{n}" for n in range(width)]
        scores = [1.0 - n / 4 for n in range(width)]
        outputs = {
            "item_id": [ids] * rows_of(request),
            "score": [scores] * rows_of(request),
        }
        reply = predict_pb2.PredictResponse(
            outputs={
                name: tf.make_tensor_proto(values)
                for name, values in (outputs | more).items()
            }
        )
        reply.model_spec.version.value = 12
        return reply

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    @property
    def signatures(self) -> list[str]:
        return [request.model_spec.signature_name for request in self.requests]


def rows_of(request: predict_pb2.PredictRequest) -> int:
    return request.inputs["query"].tensor_shape.dim[0].size


def inputs_of(request: predict_pb2.PredictRequest) -> dict[str, Any]:
    return {name: tf.make_ndarray(t).tolist() for name, t in request.inputs.items()}


class Sync:
    """Searches of one `SearchClient` in a world."""

    def __init__(self, world: World, **more: Any) -> None:
        self.client = SearchClient(
            "host:1",
            "shop",
            predict=world.predict,
            sleep=world.sleep,
            clock=lambda: world.now,
            random=lambda: world.dice.pop(0),
            **more,
        )

    def search(self, *args: Any, **more: Any) -> SearchReply:
        return self.client.search(*args, **more)


class Async:
    """The same for one `AsyncSearchClient`."""

    def __init__(self, world: World, **more: Any) -> None:
        async def predict(*args: Any, **more: Any) -> Any:
            return world.predict(*args, **more)

        async def sleep(seconds: float) -> None:
            world.sleep(seconds)

        self.client = AsyncSearchClient(
            "host:1",
            "shop",
            predict=predict,
            sleep=sleep,
            clock=lambda: world.now,
            random=lambda: world.dice.pop(0),
            **more,
        )

    def search(self, *args: Any, **more: Any) -> SearchReply:
        return asyncio.run(self.client.search(*args, **more))


@pytest.fixture(params=[Sync, Async])
def client_in(request: pytest.FixtureRequest) -> Callable[..., Sync | Async]:
    return request.param


def test_a_search_gives_hits_and_the_version_that_answered(client_in: Any) -> None:
    assert client_in(World()).search(["tea", "hat"], 2) == SearchReply(
        12,
        [
            QueryResult("tea", [Hit("i0", 1.0), Hit("i1", 0.75)], None),
            QueryResult("hat", [Hit("i0", 1.0), Hit("i1", 0.75)], None),
        ],
    )


def test_the_plainest_signature_is_asked(client_in: Any) -> None:
    world = World()
    client = client_in(world)
    client.search(["tea"], 1)
    client.search(["tea", "hat"], 1, exclude=["i1", "i2"])
    assert world.requests[0].model_spec.name == "shop"
    assert world.signatures == ["serving_default", "search_excluding"]
    assert inputs_of(world.requests[0]) == {"query": [b"tea"]}
    assert inputs_of(world.requests[1]) == {
        "query": [b"tea", b"hat"],
        "exclude": [[b"i1", b"i2"]] * 2,
    }


@pytest.mark.parametrize("version", [None, 7, "canary"])
def test_a_version_is_asked_by_its_number_or_its_label(
    client_in: Any, version: int | str | None
) -> None:
    world = World()
    client_in(world, version=version).search(["tea"], 5)  # by both signatures
    for request in world.requests:
        spec = request.model_spec
        assert (spec.version.value, spec.version_label) == (
            version if isinstance(version, int) else 0,
            version if isinstance(version, str) else "",
        )
        assert spec.HasField("version") is isinstance(version, int)
    assert len(world.requests) == 2


def test_filters_are_sent_with_k_and_answered_with_a_count(client_in: Any) -> None:
    world = World()
    reply = client_in(world).search(["tea", "hat"], 2, filters=["brand=a", "price>=1"])
    assert world.signatures == ["search_filtered"]
    [request] = world.requests
    assert inputs_of(request) == {
        "query": [b"tea", b"hat"],
        "k": [2, 2],
        "exclude": [[], []],
        "filter": [[b"brand=a", b"price>=1"]] * 2,
    }
    assert [t.dtype for _, t in sorted(request.inputs.items())] == [7, 7, 3, 7]
    assert [result.num_matching for result in reply.results] == [8, 8]


def test_more_than_the_export_gives_is_asked_of_the_signature_with_k(
    client_in: Any,
) -> None:
    world = World()
    client = client_in(world)
    assert len(client.search(["tea"], 5, exclude=["i9"]).results[0].hits) == 5
    assert world.signatures == ["search_excluding", "search_filtered"]
    assert inputs_of(world.requests[1])["exclude"] == [[b"i9"]]
    # What the export gives is known by now.
    client.search(["tea"], 4)
    client.search(["tea"], 3)
    assert world.signatures[2:] == ["search_filtered", "serving_default"]


def test_more_than_an_export_without_that_signature_gives_is_refused(
    client_in: Any,
) -> None:
    world = World()
    world.filtered = False
    with pytest.raises(SearchError, match=r"^k must be at most 3, .* got 4: ask for"):
        client_in(world).search(["tea"], 4)
    with pytest.raises(SearchError, match=r"the reason \(FAILED_PRECONDITION\)"):
        client_in(world).search(["tea"], 4, filters=["brand=a"])


def test_pauses_grow_and_are_drawn_at_random(client_in: Any) -> None:
    world = World(UNAVAILABLE, EXHAUSTED, UNAVAILABLE, dice=(1.0, 0.5, 0.25))
    retries = RetryPolicy(max_attempts=4, first_pause=0.1)
    assert client_in(world, timeout=5.0, retries=retries).search(["tea"], 1).results
    # 1.0 of 0.1, 0.5 of 0.2, 0.25 of 0.4; one deadline for all attempts.
    assert world.pauses == pytest.approx([0.1, 0.1, 0.1])
    assert world.timeouts == pytest.approx([5.0, 4.9, 4.8, 4.7])


def test_a_pause_has_an_upper_end(client_in: Any) -> None:
    world = World(*[UNAVAILABLE] * 4)
    retries = RetryPolicy(max_attempts=5, first_pause=1.0, longest_pause=3.0)
    client_in(world, timeout=99.0, retries=retries).search(["tea"], 1)
    assert world.pauses == pytest.approx([1.0, 2.0, 3.0, 3.0])


def test_attempts_are_bounded(client_in: Any) -> None:
    world = World(*[UNAVAILABLE] * 9)
    with pytest.raises(
        SearchError, match=r"^no server answers at host:1 \(the reason\): is it running"
    ) as caught:
        client_in(world, retries=RetryPolicy(max_attempts=4)).search(["tea"])
    assert caught.value.code is UNAVAILABLE
    assert len(world.timeouts) == 4


def test_no_pause_goes_past_the_deadline(client_in: Any) -> None:
    world = World(*[UNAVAILABLE] * 3, duration=0.5)
    with pytest.raises(SearchError, match="no server answers"):
        client_in(world, timeout=9.0).search(["tea"], timeout=1.0)
    # 0.5 + 0.1 + 0.5 is past it already.
    assert world.timeouts == pytest.approx([1.0, 0.4])


def test_the_deadline_is_for_both_signatures_together(client_in: Any) -> None:
    world = World(duration=2.0)
    client_in(world, timeout=5.0).search(["tea"], 9)
    assert world.timeouts == pytest.approx([5.0, 3.0])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            r"^host:1 refused the request: the reason \(INVALID_ARGUMENT\)$",
        ),
        (grpc.StatusCode.NOT_FOUND, r"the reason \(NOT_FOUND\)"),
        (grpc.StatusCode.INTERNAL, r"the reason \(INTERNAL\)"),
        (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            r"^host:1 did not answer within 2 seconds$",
        ),
    ],
)
def test_everything_else_fails_at_once(
    client_in: Any, code: grpc.StatusCode, message: str
) -> None:
    world = World(code)
    with pytest.raises(SearchError, match=message) as caught:
        client_in(world, timeout=2.0).search(["tea"])
    assert caught.value.code is code
    assert len(world.timeouts) == 1
    assert world.pauses == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": "tea"}, r"queries must be a list of strings, .* pass \['tea'\]"),
        ({"exclude": "i1"}, "exclude must be a list of strings"),
        ({"filters": "brand=a"}, "filters must be a list of strings"),
        ({"filters": ["brand=a", ""]}, "a filter must be a clause such as brand=acme"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"queries": ["\ud83d"]}, "half of a surrogate pair"),
    ],
)
def test_what_cannot_be_meant_is_not_sent(
    client_in: Any, arguments: dict[str, Any], message: str
) -> None:
    world = World()
    with pytest.raises(SearchError, match=message):
        client_in(world).search(**{"queries": ["tea"], **arguments})
    assert world.requests == []
