"""The server over a real socket, with the official stubs."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import main
from serving.service import BoundServer
from tfrs_mmse.cli import CommandError

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


class Stubs(NamedTuple):
    """Both services of one server."""

    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    model: model_service_pb2_grpc.ModelServiceStub


def connect(channel: grpc.Channel) -> Stubs:
    return Stubs(
        prediction_service_pb2_grpc.PredictionServiceStub(channel),
        model_service_pb2_grpc.ModelServiceStub(channel),
    )


@pytest.fixture(scope="module")
def stubs(served: Any) -> Iterator[Stubs]:
    with grpc.insecure_channel(served.target) as channel:
        yield connect(channel)


def predict_request(
    name: str = "shop", /, *, signature: str = "", **inputs: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        proto = (
            value
            if isinstance(value, tensor_pb2.TensorProto)
            else tf.make_tensor_proto(value)
        )
        request.inputs[key].CopyFrom(proto)
    return request


def refusal(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value.code(), caught.value.details()


def status_of(stubs: Stubs, name: str = "shop") -> dict[int, tuple[int, str]]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    reply = stubs.model.GetModelStatus(request, timeout=20)
    return {
        s.version: (s.state, s.status.error_message) for s in reply.model_version_status
    }


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a minute")


def test_queries_are_answered_best_first(stubs: Stubs) -> None:
    reply = stubs.prediction.Predict(
        predict_request(query=["Red SHOE", "desk lime"]), timeout=20
    )
    item_id, score = (
        tf.make_ndarray(reply.outputs["item_id"]),
        tf.make_ndarray(reply.outputs["score"]),
    )
    assert item_id[:, 0].tolist() == [b"i0", b"i99"]
    assert item_id.shape == score.shape == (2, 5)
    assert (np.diff(score) <= 0).all()
    # Unit vectors, and the query is the title.
    np.testing.assert_allclose(score[:, 0], 1.0, rtol=1e-6)
    spec = reply.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        "shop",
        1,
        "serving_default",
    )


def test_numbers_come_in_their_own_field_for_clients_that_read_only_that(
    stubs: Stubs,
) -> None:
    reply = stubs.prediction.Predict(predict_request(query=["hat"]), timeout=20)
    assert len(reply.outputs["score"].float_val) == 5
    assert len(reply.outputs["item_id"].string_val) == 5


def test_exclusions_and_embeddings_are_served(stubs: Stubs) -> None:
    request = predict_request(
        signature="search_excluding", query=["red shoe"], exclude=[["i0", "", "i7"]]
    )
    ids = tf.make_ndarray(
        stubs.prediction.Predict(request, timeout=20).outputs["item_id"]
    )
    assert ids.shape == (1, 5)
    assert not {b"i0", b"i7"} & set(ids[0])
    request = predict_request(signature="embed_query", query=["red shoe"])
    query = tf.make_ndarray(
        stubs.prediction.Predict(request, timeout=20).outputs["embedding"]
    )
    fields: dict[str, Any] = {
        "title": ["red shoe"],
        "Brand__EU_": [""],
        "price": np.array([np.nan], np.float32),
    }
    request = predict_request(signature="embed_item", **fields)
    item = tf.make_ndarray(
        stubs.prediction.Predict(request, timeout=20).outputs["embedding"]
    )
    np.testing.assert_allclose(query @ item.T, [[1.0]], rtol=1e-6)


def test_numbers_are_read_from_the_field_and_from_the_content(stubs: Stubs) -> None:
    price = np.array([2.0, 2.0], np.float32)
    content = tf.make_tensor_proto(price)
    assert content.tensor_content
    shape = content.tensor_shape
    forms = [
        content,
        tensor_pb2.TensorProto(
            dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=[2.0, 2.0]
        ),
        # The rest repeats it.
        tensor_pb2.TensorProto(
            dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=[2.0]
        ),
    ]
    fields: dict[str, Any] = {"title": ["red hat", "blue cup"], "Brand__EU_": ["", ""]}
    replies = [
        stubs.prediction.Predict(
            predict_request(signature="embed_item", **fields, price=form), timeout=20
        )
        for form in forms
    ]
    assert replies[0].outputs == replies[1].outputs == replies[2].outputs


def test_an_output_filter_leaves_only_what_it_names(stubs: Stubs) -> None:
    request = predict_request(query=["hat"])
    request.output_filter.append("score")
    assert list(stubs.prediction.Predict(request, timeout=20).outputs) == ["score"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([""], "query must hold at least one letter or digit"),
        (["red", "😀🎉"], "query must hold at least one letter or digit"),
        (["a" * 10_000], "query must be at most 1024 bytes long"),
        ([b"\xff\xfe"], "the text is not valid UTF-8"),
    ],
)
def test_a_query_that_cannot_be_answered_gets_one_sentence(
    stubs: Stubs, query: list[Any], message: str
) -> None:
    for signature in ("serving_default", "embed_query"):
        found = refusal(
            stubs.prediction.Predict, predict_request(signature=signature, query=query)
        )
        assert found == (INVALID, message)


def test_an_unknown_model_or_version_is_not_found(stubs: Stubs) -> None:
    found = refusal(stubs.prediction.Predict, predict_request("other", query=["hat"]))
    assert found == (
        NOT_FOUND,
        "Servable not found for request: Latest(other): this server has the model shop",
    )
    request = predict_request(query=["hat"])
    request.model_spec.version.value = 7
    assert refusal(stubs.prediction.Predict, request) == (
        NOT_FOUND,
        "Servable not found for request: Specific(shop, 7)",
    )
    request.model_spec.version.value = 1
    assert stubs.prediction.Predict(request, timeout=20).model_spec.version.value == 1


def test_labels_and_nameless_models_are_invalid(stubs: Stubs) -> None:
    request = predict_request(query=["hat"])
    request.model_spec.version_label = "stable"
    assert refusal(stubs.prediction.Predict, request) == (
        INVALID,
        "Unrecognized servable version label: stable",
    )
    assert refusal(stubs.prediction.Predict, predict_request("", query=["hat"])) == (
        INVALID,
        "ModelSpec has no name specified.",
    )
    assert refusal(stubs.prediction.Predict, predict_pb2.PredictRequest()) == (
        INVALID,
        "Missing ModelSpec",
    )


def test_an_unknown_signature_is_a_failed_precondition(stubs: Stubs) -> None:
    code, message = refusal(
        stubs.prediction.Predict, predict_request(signature="classify", query=["hat"])
    )
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message == (
        'Serving signature key "classify" not found: this model has '
        "{embed_item,embed_query,search_excluding,serving_default}."
    )


def test_missing_and_extra_inputs_are_both_named(stubs: Stubs) -> None:
    request = predict_request(
        signature="search_excluding", query=["hat"], k=[3], text=["hat"]
    )
    assert refusal(stubs.prediction.Predict, request) == (
        INVALID,
        "inputs do not match the signature search_excluding: it takes {exclude,query}, the request holds "
        "{k,query,text}. Sent extra: {k,text}. Missing but required: {exclude}.",
    )


@pytest.mark.parametrize(
    ("output_filter", "message"),
    [
        (
            ["scores"],
            "output tensor alias not found in signature: scores Outputs expected to be in the set {item_id,",
        ),
        (["score", "score"], "duplicate output tensor alias: score"),
    ],
)
def test_a_wrong_output_filter_is_invalid(
    stubs: Stubs, output_filter: list[str], message: str
) -> None:
    request = predict_request(query=["hat"])
    request.output_filter.extend(output_filter)
    code, found = refusal(stubs.prediction.Predict, request)
    assert code is INVALID
    assert found.startswith(message)


def _strings(dims: list[int], *values: bytes, **more: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=values, **more)
    for size in dims:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _unknown_rank() -> tensor_pb2.TensorProto:
    proto = _strings([], b"hat")
    proto.tensor_shape.unknown_rank = True
    return proto


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            tf.make_tensor_proto([1, 2]),
            "input query must be of type DT_STRING, not DT_INT32",
        ),
        (
            tensor_pb2.TensorProto(),
            "input query must be of type DT_STRING, not DT_INVALID",
        ),
        (
            tensor_pb2.TensorProto(dtype=999),
            "input query must be of type DT_STRING, not 999",
        ),
        (tf.make_tensor_proto("hat"), "input query must be of shape [any], not []"),
        (
            tf.make_tensor_proto([["hat"]]),
            "input query must be of shape [any], not [1, 1]",
        ),
        (_strings([-1], b"hat"), "input query must be of shape [any], not [-1]"),
        (_unknown_rank(), "input query must be of shape [any], not an unknown rank"),
        (_strings([2]), "input query of shape [2] must hold 2 values, not 0"),
        (
            _strings([1], b"hat", b"cup"),
            "input query of shape [1] must hold 1 values, not 2",
        ),
        (
            _strings([1], tensor_content=b"\x03hat"),
            "input query must hold its strings in string_val, not in",
        ),
        (
            _strings([1 << 40], b"hat"),
            "input query holds 1099511627776 rows, at most 1024 are answered at once",
        ),
        (
            tf.make_tensor_proto(["hat"] * 1025),
            "input query holds 1025 rows, at most 1024 are answered at once",
        ),
    ],
)
def test_a_tensor_that_is_not_what_the_signature_wants_is_invalid(
    stubs: Stubs, tensor: tensor_pb2.TensorProto, message: str
) -> None:
    code, found = refusal(stubs.prediction.Predict, predict_request(query=tensor))
    assert code is INVALID
    assert found.startswith(message)


def test_shapes_are_checked_before_memory_is_taken(stubs: Stubs) -> None:
    request = predict_request(
        signature="search_excluding",
        query=["hat"],
        exclude=_strings([1, 1 << 40], b"i1"),
    )
    code, message = refusal(stubs.prediction.Predict, request)
    assert (code, message) == (
        INVALID,
        "input exclude of shape [1, 1099511627776] holds 1099511627776 values, at most 4194304 are taken",
    )
    short = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"abc")
    short.tensor_shape.dim.add(size=1)
    request = predict_request(
        signature="embed_item", title=["hat"], Brand__EU_=[""], price=short
    )
    assert refusal(stubs.prediction.Predict, request) == (
        INVALID,
        "input price of shape [1] must hold 4 bytes in tensor_content, not 3",
    )


def test_a_batch_whose_inputs_differ_in_length_is_invalid(stubs: Stubs) -> None:
    request = predict_request(
        signature="search_excluding", query=["hat"], exclude=[["i1"], ["i2"]]
    )
    assert refusal(stubs.prediction.Predict, request) == (
        INVALID,
        "exclude must have one row for each query",
    )


def test_metadata_holds_the_signatures(stubs: Stubs) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    request.model_spec.name = "shop"
    reply = stubs.prediction.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    assert reply.model_spec.version.value == 1
    search = signatures.signature_def["search_excluding"]
    assert set(search.inputs) == {"query", "exclude"}
    assert search.outputs["item_id"].tensor_shape.dim[1].size == 5
    assert search.method_name == "tensorflow/serving/predict"
    del request.metadata_field[:]
    assert refusal(stubs.prediction.GetModelMetadata, request) == (
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("weights")
    assert refusal(stubs.prediction.GetModelMetadata, request) == (
        INVALID,
        "Metadata field weights is not supported: ask for signature_def",
    )


def test_status_names_the_versions(stubs: Stubs) -> None:
    assert status_of(stubs) == {1: (30, "")}  # AVAILABLE
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "shop"
    request.model_spec.version.value = 3
    assert refusal(stubs.model.GetModelStatus, request) == (
        NOT_FOUND,
        "Could not find version 3 of model shop",
    )


def test_other_methods_are_unimplemented(stubs: Stubs) -> None:
    code, _ = refusal(
        stubs.prediction.Classify, classification_pb2.ClassificationRequest()
    )
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_many_clients_at_once_get_their_own_answers(stubs: Stubs) -> None:
    calls = [
        stubs.prediction.Predict.future(predict_request(query=[f"{c} hat"]), timeout=60)
        for c in ["red", "lime"] * 40
    ]
    best = [call.result().outputs["item_id"].string_val[0] for call in calls]
    assert best == [b"i1", b"i91"] * 40


def test_the_server_drains_on_sigterm_and_says_what_it_did(
    exact_version: Path, start_server: Callable[..., Any]
) -> None:
    server = start_server(exact_version.parent)
    with grpc.insecure_channel(server.target) as channel:
        stubs = connect(channel)
        stubs.prediction.Predict(predict_request(query=["hat"]), timeout=20)
        refusal(stubs.prediction.Predict, predict_request(query=[""]))
        calls = [
            stubs.prediction.Predict.future(
                predict_request(query=["hat"] * 1000), timeout=60
            )
            for _ in range(20)
        ]
        calls[0].result()
        server.process.send_signal(signal.SIGTERM)
        codes = {call.code() for call in calls}
    out, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    answered = sum(call.code() is grpc.StatusCode.OK for call in calls)
    assert json.loads(out) == {"requests": {"INVALID_ARGUMENT": 1, "OK": answered + 1}}
    assert not [line for line in server.lines if "Traceback" in line]


def test_a_newer_version_takes_over_and_a_broken_one_does_not(
    exact_version: Path,
    scann_version: Path,
    start_server: Callable[..., Any],
    tmp_path: Path,
) -> None:
    shutil.copytree(exact_version, tmp_path / "1")
    server = start_server(tmp_path, "--file_system_poll_wait_seconds", "0.1")
    assert server.lines[-1] == f"serving shop version 1 on {server.target}"
    stop, failures = threading.Event(), []
    with grpc.insecure_channel(server.target) as channel:
        stubs = connect(channel)

        def ask() -> None:
            while not stop.is_set():
                try:
                    reply = stubs.prediction.Predict(
                        predict_request(query=["red hat"]), timeout=20
                    )
                    assert reply.outputs["item_id"].string_val[0] == b"i1"
                except (grpc.RpcError, AssertionError) as e:
                    failures.append(e)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        shutil.copytree(scann_version, tmp_path / ".tmp-2")
        (tmp_path / ".tmp-2").rename(tmp_path / "2")
        # AVAILABLE, END.
        wait_until(lambda: status_of(stubs) == {2: (30, ""), 1: (50, "")})
        (tmp_path / "3").mkdir()
        wait_until(lambda: status_of(stubs).get(3, (0, ""))[0] == 50)
        _, message = status_of(stubs)[3]
        assert message == (
            f"expected a model version written by `python -m serving.export` in {tmp_path}/3, "
            "but there is no manifest.json"
        )
        assert status_of(stubs)[2] == (30, "")
        shutil.rmtree(tmp_path / "3")
        shutil.rmtree(tmp_path / "2")  # to roll back
        wait_until(lambda: status_of(stubs)[1] == (30, ""))
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0


def test_a_port_in_use_is_one_sentence(
    exact_version: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ours are for a process of its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = [
            "--model_base_path",
            str(exact_version.parent),
            "--model_name",
            "shop",
            "--host",
            "127.0.0.1",
        ]
        assert main([*flags, "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == (
        f"error: cannot listen on 127.0.0.1:{port}: another program uses the port, or it may not be used; "
        "choose another --port (0 picks a free one)"
    )


def test_two_servers_do_not_share_a_port(served: Any) -> None:
    port = int(served.target.split(":")[1])
    with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}"):
        BoundServer(
            served.manager,
            "shop",
            served.counts,
            host="127.0.0.1",
            port=port,
            max_workers=1,
        )


def test_a_base_path_without_a_version_is_one_sentence(
    exact_version: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / ".tmp-1").mkdir()
    flags = ["--model_base_path", str(tmp_path), "--model_name", "shop", "--port", "0"]
    assert main(flags) == 1
    assert capsys.readouterr().err == (
        f"error: expected numeric version directories in {tmp_path}, found none: "
        "write one with `python -m serving.export --output` and this directory\n"
    )
    shutil.copytree(exact_version, tmp_path / "4")
    (tmp_path / "4" / "manifest.json").write_text('{"format_version": 99}')
    assert main(flags) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: no version in {tmp_path} can be served; version 4: {tmp_path}/4/manifest.json is of format "
        "version 99, this program reads version 2: write it anew with this version of tfrs-mmse"
    )


def test_wrong_usage_exits_with_2() -> None:
    import sys

    command = [
        sys.executable,
        "-m",
        "serving.server",
        "--model_base_path",
        "x",
        "--model_name",
        "y",
        "--port",
        "70000",
    ]
    finished = subprocess.run(
        command,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.endswith(
        "argument --port: must be from 0 to 65535, got 70000\n"
    )
