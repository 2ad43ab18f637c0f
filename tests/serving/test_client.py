"""The client: with a fake stub, a fake clock, and a real server."""

import json
import socket
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.client import main, table
from serving.search import Hit, SearchClient, SearchError

UNAVAILABLE, INVALID = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT


class FakeRpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__()
        self.code, self.details = lambda: code, lambda: details


class FakeWorld:
    """A stub that fails a few times before it answers, and the time that passes."""

    def __init__(self, *failures: grpc.StatusCode, duration: float = 0.0) -> None:
        self.failures, self.duration, self.now = list(failures), duration, 100.0
        self.timeouts: list[float] = []
        self.pauses: list[float] = []
        self.request = predict_pb2.PredictRequest()
        self.outputs = {
            "item_id": [["i7", "i3", ""]],
            "score": [[0.5, 0.25, float("-inf")]],
        }

    def Predict(
        self, request: predict_pb2.PredictRequest, timeout: float
    ) -> predict_pb2.PredictResponse:
        self.request = request
        self.timeouts.append(timeout)
        self.now += self.duration
        if self.failures:
            raise FakeRpcError(self.failures.pop(0), "the reason")
        return predict_pb2.PredictResponse(
            outputs={k: tf.make_tensor_proto(v) for k, v in self.outputs.items()}
        )

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def client(self, **more: Any) -> SearchClient:
        return SearchClient(
            "host:1",
            "shop",
            stub=self,
            sleep=self.sleep,
            clock=lambda: self.now,
            **more,
        )


def test_padding_is_no_hit() -> None:
    assert FakeWorld().client().search(["tea"], 3) == [
        [Hit("i7", 0.5), Hit("i3", 0.25)]
    ]
    assert FakeWorld().client().search(["tea"], 1) == [[Hit("i7", 0.5)]]


def test_the_signature_follows_from_the_exclusions() -> None:
    world = FakeWorld()
    world.client().search(["tea"], 1)
    assert (world.request.model_spec.name, world.request.model_spec.signature_name) == (
        "shop",
        "serving_default",
    )
    world.client().search(["tea"], 1, exclude=["i1", "i2"])
    assert world.request.model_spec.signature_name == "search_excluding"
    assert tf.make_ndarray(world.request.inputs["exclude"]).tolist() == [[b"i1", b"i2"]]


def test_an_unreachable_server_is_asked_again_with_growing_pauses() -> None:
    world = FakeWorld(UNAVAILABLE, UNAVAILABLE)
    assert len(world.client(timeout=5.0).search(["tea"], 1)) == 1
    assert world.pauses == pytest.approx([0.1, 0.2])
    # One deadline for all attempts.
    assert world.timeouts == pytest.approx([5.0, 4.9, 4.7])


def test_attempts_are_bounded() -> None:
    world = FakeWorld(*[UNAVAILABLE] * 9)
    with pytest.raises(
        SearchError,
        match=r"no server answers at host:1 \(the reason\): is it running\?",
    ) as caught:
        world.client(max_attempts=4).search(["tea"])
    assert caught.value.code is UNAVAILABLE
    assert len(world.timeouts) == 4


def test_no_pause_goes_past_the_deadline() -> None:
    world = FakeWorld(UNAVAILABLE, UNAVAILABLE, duration=0.5)
    with pytest.raises(SearchError, match="no server answers"):
        world.client(timeout=1.0).search(["tea"])
    assert world.timeouts == pytest.approx([1.0, 0.4])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (INVALID, r"host:1 refused the request: the reason \(INVALID_ARGUMENT\)"),
        (grpc.StatusCode.NOT_FOUND, r"refused the request: the reason \(NOT_FOUND\)"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, r"host:1 did not answer within 2 seconds"),
    ],
)
def test_everything_else_fails_at_once(code: grpc.StatusCode, message: str) -> None:
    world = FakeWorld(code)
    with pytest.raises(SearchError, match=message):
        world.client(timeout=2.0).search(["tea"])
    assert len(world.timeouts) == 1


def test_more_than_the_model_gives_is_refused() -> None:
    with pytest.raises(SearchError, match=r"--k must be at most 3, .* got 4"):
        FakeWorld().client().search(["tea"], 4)


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"item_id": ["i1"], "score": [0.5]},
        {"item_id": [["i1"]], "score": [[1.0, 2.0]]},
    ],
)
def test_the_answer_of_some_other_model_is_refused(outputs: dict[str, Any]) -> None:
    world = FakeWorld()
    world.outputs = outputs
    with pytest.raises(
        SearchError, match="did not answer with item_id and score for 1 queries"
    ):
        world.client().search(["tea"], 1)


def test_the_table_lines_up_wide_letters() -> None:
    hits = [
        {"rank": 1, "score": 0.5, "item_id": "茶1", "title": "Green\ttea"},
        {"rank": 10, "score": -0.25, "item_id": "i1234567", "title": None},
    ]
    assert table({"query": "tea", "hits": hits}).splitlines() == [
        "tea",
        "rank   score  item_id   title",
        "   1  0.5000  茶1       Green tea",
        "  10  -0.2500  i1234567",
    ]
    assert table({"query": "tea", "hits": []}) == "tea\nno items"


def test_a_person_gets_a_table_with_titles(
    served: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "i0", "title": "Red shoe"}\n{"item_id": "i1", "title": "Hat"}\n'
    )
    flags = [
        "--target",
        served.target,
        "--model",
        "shop",
        "--k",
        "2",
        "--items",
        str(tmp_path / "items.jsonl"),
    ]
    assert main([*flags, "--query", "red shoe", "--query", "lime desk"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    lines = first.splitlines()
    assert lines[:2] == ["red shoe", "rank   score  item_id  title"]
    assert lines[2] == "   1  1.0000  i0       Red shoe"
    assert len(lines) == 4
    assert second.splitlines()[2] == "   1  1.0000  i99"


def test_a_program_gets_json(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--target",
        served.target,
        "--model",
        "shop",
        "--query",
        "red shoe",
        "--exclude",
        "i0",
        "--json",
    ]
    assert main([*flags, "--k", "3"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["query"] == "red shoe"
    assert [hit["rank"] for hit in result["hits"]] == [1, 2, 3]
    assert "i0" not in {hit["item_id"] for hit in result["hits"]}
    assert result["hits"][0].keys() == {"rank", "score", "item_id"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--query", ""],
            "refused the request: query must hold at least one letter or digit (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "😀"],
            "refused the request: query must hold at least one letter or digit (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "a" * 10_000],
            "refused the request: query must be at most 1024 bytes long (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "\udcff"],
            "refused the request: the text is not valid UTF-8 (INVALID_ARGUMENT)",
        ),
        (["--query", "hat", "--k", "6"], "--k must be at most 5"),
        (
            ["--query", "hat", "--model", "other"],
            "Servable not found for request: Latest(other)",
        ),
        (
            ["--query", "hat", "--items", "/no/such/file"],
            "--items: there is no file /no/such/file",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    served: Any, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["--target", served.target, "--model", "shop", "--k", "5", *flags]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_an_unreachable_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert (
        main(
            [
                "--target",
                f"127.0.0.1:{port}",
                "--model",
                "shop",
                "--query",
                "hat",
                "--timeout",
                "3",
            ]
        )
        == 1
    )
    assert f"error: no server answers at 127.0.0.1:{port} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k", "0"], "--k: expected a whole number of at least 1, got '0'"),
        (["--timeout", "inf"], "must be a positive number of seconds"),
    ],
)
def test_wrong_usage_exits_with_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--target", "h:1", "--model", "m", "--query", "q", *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_class_can_be_used_without_the_command(served: Any) -> None:
    with SearchClient(served.target, "shop", timeout=20) as client:
        [[hit], [other]] = client.search(["red shoe", "teal sofa"], 1)
    assert (hit.item_id, other.item_id) == ("i0", "i87")
    assert hit.score == pytest.approx(1.0)
