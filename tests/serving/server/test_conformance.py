"""TensorFlow Serving's documented behaviour, for any server that speaks its protocol.

Runs against this project's server, or against a `tensorflow_model_server` that serves an exact export as `shop`:

    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name=shop --model_base_path=$PWD/models/shop
    pytest tests/serving/server/test_conformance.py --target localhost:8500 --rest-target localhost:8501 \
        --version-dir models/shop/1

Status codes are asserted, and messages only where all versions of TensorFlow Serving that we have read agree; each test
names the file of tensorflow/serving where the behaviour is written down (`model_servers/` unless another is named).
"""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.server.rest import RestServer
from serving.server.servable import Servable
from tests.serving.stubs import Stubs, connect, predict_request, refusal

CODE = grpc.StatusCode
QUERIES = ["red shoe", "lime desk", "hat"]


@pytest.fixture(scope="module")
def version_dir(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--version-dir", None)
    return Path(given) if given else request.getfixturevalue("exact_version")


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest) -> str:
    given = request.config.getoption("--target", None)
    return given or request.getfixturevalue("served").target


@pytest.fixture(scope="module")
def rest_target(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.config.getoption("--target", None):
        given = request.config.getoption("--rest-target", None)
        if not given:
            pytest.skip("--rest-target says where the server's REST API is")
        yield given
        return
    served = request.getfixturevalue("served")
    rest = RestServer(served.models, served.metrics, host="127.0.0.1", port=0)
    yield f"127.0.0.1:{rest.port}"
    rest.stop(grace=1.0)


@pytest.fixture(scope="module")
def stubs(target: str) -> Iterator[Stubs]:
    with grpc.insecure_channel(target) as channel:
        yield connect(channel)


@pytest.fixture(scope="module")
def servable(version_dir: Path) -> Iterator[Servable]:
    """The same version in this process: what the answers must be."""
    servable = Servable(version_dir)
    yield servable
    servable.close()


@pytest.fixture
def rest(rest_target: str) -> Iterator[Callable[..., tuple[int, Any]]]:
    client = http.client.HTTPConnection(rest_target, timeout=30)

    def send(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        client.request(method, path, data)
        reply = client.getresponse()
        assert reply.headers["Content-Type"] == "application/json"
        return reply.status, json.loads(reply.read())

    yield send
    client.close()


def code(call: Callable[..., Any], request: Any) -> grpc.StatusCode:
    return refusal(call, request)[0]


def test_predict_answers_with_the_models_numbers_and_says_who_answered(
    stubs: Stubs, servable: Servable, version_dir: Path
) -> None:
    """servables/tensorflow/predict_util.cc: values in the dtype's own field, the spec with the version filled in."""
    reply = stubs.prediction.Predict(predict_request(query=QUERIES), timeout=20)
    wanted = servable.predict("", {"query": tf.make_tensor_proto(QUERIES)})
    assert reply.outputs.keys() == {"item_id", "score"}
    found = reply.outputs["item_id"]
    assert list(found.string_val) == wanted["item_id"].ravel().tolist()
    assert [dim.size for dim in found.tensor_shape.dim] == list(wanted["item_id"].shape)
    np.testing.assert_allclose(
        reply.outputs["score"].float_val, wanted["score"].ravel(), rtol=1e-5
    )
    spec = reply.model_spec
    assert (spec.name, spec.signature_name) == ("shop", "serving_default")
    assert spec.version.value == int(version_dir.name)


def test_an_exact_version_can_be_asked_for(stubs: Stubs, version_dir: Path) -> None:
    request = predict_request(query=["hat"])
    request.model_spec.version.value = int(version_dir.name)
    stubs.prediction.Predict(request, timeout=20)


def test_an_output_filter_leaves_what_it_names(stubs: Stubs) -> None:
    """servables/tensorflow/predict_util.cc."""
    request = predict_request(query=["hat"])
    request.output_filter.append("score")
    assert list(stubs.prediction.Predict(request, timeout=20).outputs) == ["score"]
    request.output_filter.append("score")
    assert code(stubs.prediction.Predict, request) is CODE.INVALID_ARGUMENT
    request.output_filter[:] = ["scores"]
    wrong, message = refusal(stubs.prediction.Predict, request)
    assert wrong is CODE.INVALID_ARGUMENT
    assert message.startswith("output tensor alias not found in signature: scores")


def test_a_request_must_name_a_model(stubs: Stubs) -> None:
    """servables/tensorflow/predict_impl.cc, server_core.cc."""
    found = refusal(stubs.prediction.Predict, predict_pb2.PredictRequest())
    assert found == (CODE.INVALID_ARGUMENT, "Missing ModelSpec")
    found = refusal(stubs.prediction.Predict, predict_request("", query=["hat"]))
    assert found == (CODE.INVALID_ARGUMENT, "ModelSpec has no name specified.")


def test_an_unknown_model_or_version_is_not_found(stubs: Stubs) -> None:
    """core/basic_manager.cc."""
    wrong, message = refusal(
        stubs.prediction.Predict, predict_request("other", query=["hat"])
    )
    assert wrong is CODE.NOT_FOUND
    assert message.startswith("Servable not found for request: Latest(other)")
    request = predict_request(query=["hat"])
    request.model_spec.version.value = 987654321
    assert refusal(stubs.prediction.Predict, request) == (
        CODE.NOT_FOUND,
        "Servable not found for request: Specific(shop, 987654321)",
    )


def test_an_unknown_label_is_not_answered(stubs: Stubs) -> None:
    """server_core.cc: INVALID_ARGUMENT, or UNAVAILABLE while no model has a label."""
    request = predict_request(query=["hat"])
    request.model_spec.version_label = "no-such-label"
    assert code(stubs.prediction.Predict, request) in {
        CODE.INVALID_ARGUMENT,
        CODE.UNAVAILABLE,
    }


def test_an_unknown_signature_is_a_failed_precondition(stubs: Stubs) -> None:
    """servables/tensorflow/predict_util.cc."""
    request = predict_request(signature="no_such", query=["hat"])
    wrong, message = refusal(stubs.prediction.Predict, request)
    assert wrong is CODE.FAILED_PRECONDITION
    assert message.startswith('Serving signature key "no_such" not found')


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"query": ["hat"], "text": ["hat"]},
        {"text": ["hat"]},
    ],
)
def test_missing_extra_and_misnamed_inputs_are_invalid(
    stubs: Stubs, inputs: dict[str, Any]
) -> None:
    """servables/tensorflow/predict_util.cc, tensorflow/cc/saved_model/util.cc."""
    request = predict_request(**inputs)
    assert code(stubs.prediction.Predict, request) is CODE.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "query",
    [
        np.array([1.0], np.float32),
        "hat",
        [["hat"]],
        [""],
        [b"\xff\xfe"],
        ["a" * 1025],
    ],
)
def test_tensors_that_the_graph_does_not_take_are_invalid(
    stubs: Stubs, query: Any
) -> None:
    """Of another dtype or shape, or refused by an assertion in the graph."""
    request = predict_request(query=query)
    assert code(stubs.prediction.Predict, request) is CODE.INVALID_ARGUMENT


def test_a_message_is_cut(stubs: Stubs) -> None:
    """grpc_status_util.cc: 1,024 characters, and there a mark that it was longer."""
    wrong, message = refusal(
        stubs.prediction.Predict, predict_request("n" * 5000, query=["hat"])
    )
    assert wrong is CODE.NOT_FOUND
    assert len(message) <= 1024 + len("...TRUNCATED")


def test_metadata_has_the_signatures(stubs: Stubs, version_dir: Path) -> None:
    """servables/tensorflow/get_model_metadata_impl.cc."""
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "shop"
    assert code(stubs.prediction.GetModelMetadata, request) is CODE.INVALID_ARGUMENT
    request.metadata_field.append("weights")
    assert code(stubs.prediction.GetModelMetadata, request) is CODE.INVALID_ARGUMENT
    request.metadata_field[:] = ["signature_def"]
    reply = stubs.prediction.GetModelMetadata(request, timeout=20)
    assert reply.model_spec.version.value == int(version_dir.name)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    search = signatures.signature_def["serving_default"]
    assert set(search.inputs) == {"query"}
    assert set(search.outputs) == {"item_id", "score"}
    request.model_spec.name = "other"
    assert code(stubs.prediction.GetModelMetadata, request) is CODE.NOT_FOUND


def test_status_tells_of_the_versions(stubs: Stubs, version_dir: Path) -> None:
    """get_model_status_impl.cc."""
    request = get_model_status_pb2.GetModelStatusRequest()
    assert code(stubs.model.GetModelStatus, request) is CODE.INVALID_ARGUMENT
    request.model_spec.name = "shop"
    for version in (None, int(version_dir.name)):
        if version:
            request.model_spec.version.value = version
        reply = stubs.model.GetModelStatus(request, timeout=20)
        state = {s.version: s.state for s in reply.model_version_status}
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert state[int(version_dir.name)] == available
    request.model_spec.version.value = 987654321
    wrong, message = refusal(stubs.model.GetModelStatus, request)
    assert wrong is CODE.NOT_FOUND
    assert message.startswith("Could not find version 987654321 of model shop")
    request.model_spec.name = "other"
    assert code(stubs.model.GetModelStatus, request) is CODE.NOT_FOUND


def test_a_config_without_models_is_refused(stubs: Stubs) -> None:
    """model_service_impl.cc; this project's server refuses every config that comes over the network."""
    request = model_management_pb2.ReloadConfigRequest()
    assert code(stubs.model.HandleReloadConfigRequest, request) in {
        CODE.INVALID_ARGUMENT,
        CODE.PERMISSION_DENIED,
    }


def test_rest_answers_by_row_and_by_column(
    rest: Callable[..., tuple[int, Any]], servable: Servable
) -> None:
    """util/json_tensor.cc."""
    wanted = servable.predict("", {"query": tf.make_tensor_proto(QUERIES)})
    ids = [[i.decode() for i in row] for row in wanted["item_id"]]
    rows: list[Any] = [QUERIES, [{"query": query} for query in QUERIES]]
    for instances in rows:
        status, reply = rest(
            "POST", "/v1/models/shop:predict", {"instances": instances}
        )
        assert status == 200
        assert [row["item_id"] for row in reply["predictions"]] == ids
    columns: list[Any] = [QUERIES, {"query": QUERIES}]
    for inputs in columns:
        status, reply = rest("POST", "/v1/models/shop:predict", {"inputs": inputs})
        assert status == 200
        assert reply["outputs"]["item_id"] == ids
        np.testing.assert_allclose(
            reply["outputs"]["score"], wanted["score"], rtol=1e-5
        )


def test_rest_gives_a_single_output_without_its_name(
    rest: Callable[..., tuple[int, Any]],
) -> None:
    """util/json_tensor.cc."""
    body = {"signature_name": "embed_query", "instances": ["hat"]}
    status, reply = rest("POST", "/v1/models/shop:predict", body)
    assert status == 200
    [embedding] = reply["predictions"]
    assert all(isinstance(number, float) for number in embedding)


def test_rest_answers_for_a_version(
    rest: Callable[..., tuple[int, Any]], version_dir: Path
) -> None:
    """http_rest_api_util.cc."""
    path = f"/v1/models/shop/versions/{version_dir.name}"
    assert rest("POST", f"{path}:predict", {"instances": ["hat"]})[0] == 200
    status, reply = rest("GET", path)
    assert (status, reply) == (
        200,
        {
            "model_version_status": [
                {
                    "version": version_dir.name,
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        },
    )
    status, reply = rest("GET", f"{path}/metadata")
    assert status == 200
    assert reply["model_spec"]["name"] == "shop"
    assert "serving_default" in reply["metadata"]["signature_def"]["signature_def"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/shop:predict", "", 400),
        ("/v1/models/shop:predict", "{", 400),
        ("/v1/models/shop:predict", "[]", 400),
        ("/v1/models/shop:predict", {}, 400),
        ("/v1/models/shop:predict", {"instances": ["a"], "inputs": ["a"]}, 400),
        ("/v1/models/shop:predict", {"instances": []}, 400),
        ("/v1/models/shop:predict", {"instances": "hat"}, 400),
        ("/v1/models/shop:predict", {"instances": [1]}, 400),
        ("/v1/models/shop:predict", {"instances": [["hat"]]}, 400),
        ("/v1/models/shop:predict", {"instances": [{"text": "hat"}]}, 400),
        ("/v1/models/shop:predict", {"signature_name": 1, "instances": ["a"]}, 400),
        ("/v1/models/shop:predict", {"signature_name": "no", "instances": ["a"]}, 400),
        ("/v1/models/other:predict", {"instances": ["hat"]}, 404),
        ("/v1/models/shop/versions/987654321:predict", {"instances": ["hat"]}, 404),
    ],
)
def test_rest_refuses_as_json(
    rest: Callable[..., tuple[int, Any]], path: str, body: Any, status: int
) -> None:
    """http_rest_api_handler.cc, http_server.cc, util/json_tensor.cc."""
    found, reply = rest("POST", path, body)
    assert (found, list(reply)) == (status, ["error"])
