"""What the REST API says, over a real socket."""

import base64
import http.client
import json
import socket
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.server import tensors
from serving.server.errors import RequestError
from tests.serving.server.rest_client import PREDICT, SHOP, send


def test_rows_are_answered_by_row(client: http.client.HTTPConnection) -> None:
    status, reply = send(
        client, "POST", PREDICT, {"instances": ["Red SHOE", "desk lime"]}
    )
    assert status == 200
    assert list(reply) == ["predictions"]
    assert [row["item_id"][0] for row in reply["predictions"]] == ["i0", "i99"]
    assert [len(row["score"]) for row in reply["predictions"]] == [5, 5]


def test_columns_are_answered_by_column(client: http.client.HTTPConnection) -> None:
    queries = ["Red SHOE", "desk lime"]
    status, reply = send(client, "POST", PREDICT, {"inputs": queries})
    assert status == 200
    assert [ids[0] for ids in reply["outputs"]["item_id"]] == ["i0", "i99"]
    for named in (
        {"inputs": {"query": queries}},
        {"inputs": queries, "signature_name": "serving_default"},
    ):
        assert send(client, "POST", PREDICT, named) == (200, reply)
    status, rows = send(
        client, "POST", PREDICT, {"instances": [{"query": query} for query in queries]}
    )
    assert [row["score"] for row in rows["predictions"]] == reply["outputs"]["score"]


def test_both_protocols_give_the_same_numbers(
    client: http.client.HTTPConnection, served: Any
) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    request.inputs["query"].CopyFrom(tf.make_tensor_proto(["pink hat"]))
    with grpc.insecure_channel(served.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        wanted = stub.Predict(request, timeout=20).outputs
    _, reply = send(client, "POST", PREDICT, {"instances": ["pink hat"]})
    [row] = reply["predictions"]
    assert row["item_id"] == [i.decode() for i in wanted["item_id"].string_val]
    score = np.array(row["score"], np.float32)
    assert score.tolist() == list(wanted["score"].float_val)


def test_exclusions_and_embeddings_are_served(
    client: http.client.HTTPConnection,
) -> None:
    row = {"query": "red shoe", "exclude": ["i0", "", "i7"]}
    body = {"signature_name": "search_excluding", "instances": [row]}
    _, reply = send(client, "POST", f"{SHOP}/versions/1:predict", body)
    assert not {"i0", "i7"} & set(reply["predictions"][0]["item_id"])
    # No exclusions at all: a list of no strings is still of strings.
    row["exclude"] = []
    _, reply = send(client, "POST", PREDICT, body)
    assert reply["predictions"][0]["item_id"][0] == "i0"
    # A single output goes without its name.
    body = {"signature_name": "embed_query", "inputs": ["red shoe"]}
    _, reply = send(client, "POST", PREDICT, body)
    query = np.array(reply["outputs"])
    fields: dict[str, Any] = {"title": "red shoe", "Brand__EU_": "", "price": np.nan}
    body = {"signature_name": "embed_item", "instances": [fields]}
    _, reply = send(client, "POST", PREDICT, body)
    item = np.array(reply["predictions"])
    np.testing.assert_allclose(query @ item.T, [[1.0]], rtol=1e-6)


def test_padding_is_written_as_tensorflow_serving_writes_it(
    client: http.client.HTTPConnection,
) -> None:
    everything = [f"i{n}" for n in range(98)]
    body = {
        "signature_name": "search_excluding",
        "inputs": {"query": ["hat"], "exclude": [everything]},
    }
    client.request("POST", PREDICT, json.dumps(body))
    text = client.getresponse().read().decode()
    assert text.count("-Infinity") == 3
    assert json.loads(text)["outputs"]["item_id"][0][2:] == ["", "", ""]


def test_numbers_are_written_without_the_noise_of_float64() -> None:
    score = np.array([[0.2, -1.5], [np.nan, -np.inf]], np.float32)
    text = "[[0.2, -1.5], [NaN, -Infinity]]"
    assert json.dumps(tensors.write_json(score)) == text
    assert tensors.write_json(np.array([[1, 2]])) == [[1, 2]]


def test_strings_that_are_no_text_go_as_base64() -> None:
    ids = np.array([["schön".encode(), b"\xff"]], dtype=object)
    assert tensors.write_json(ids) == [["schön", {"b64": "/w=="}]]


def test_base64_stands_for_a_string(client: http.client.HTTPConnection) -> None:
    encoded = {"b64": base64.b64encode(b"red shoe").decode()}
    _, reply = send(client, "POST", PREDICT, {"instances": [encoded]})
    assert reply["predictions"][0]["item_id"][0] == "i0"
    _, reply = send(client, "POST", PREDICT, {"inputs": {"query": [encoded]}})
    assert reply["outputs"]["item_id"][0][0] == "i0"
    body = {"instances": [{"b64": "/w=="}]}
    assert send(client, "POST", PREDICT, body) == (
        400,
        {"error": "the text is not valid UTF-8"},
    )


def test_status_names_the_versions(client: http.client.HTTPConnection) -> None:
    version = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (SHOP, f"{SHOP}/versions/1", f"{SHOP}?verbose=1", "/v1/models/s%68op"):
        assert send(client, "GET", path) == (200, {"model_version_status": [version]})


def test_metadata_holds_the_signatures(client: http.client.HTTPConnection) -> None:
    status, reply = send(client, "GET", f"{SHOP}/metadata")
    assert status == 200
    assert (reply["model_spec"]["name"], reply["model_spec"]["version"]) == (
        "shop",
        "1",
    )
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    search = signatures["search_excluding"]
    assert set(search["inputs"]) == {"query", "exclude"}
    assert search["inputs"]["query"]["dtype"] == "DT_STRING"
    sizes = [dim["size"] for dim in search["outputs"]["item_id"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "5"]
    assert send(client, "GET", f"{SHOP}/versions/1/metadata") == (200, reply)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", f"{SHOP}/versions/7", "Could not find version 7 of model shop"),
        (
            "GET",
            "/v1/models/other",
            "Servable not found for request: Latest(other): this server has shop",
        ),
        (
            "GET",
            "/v1/models/..%2F..%2Fetc%2Fpasswd",
            "Servable not found for request: Latest(../../etc/passwd): this server has shop",
        ),
        (
            "GET",
            f"{SHOP}/versions/7/metadata",
            "Servable not found for request: Specific(shop, 7)",
        ),
        (
            "POST",
            f"{SHOP}/versions/7:predict",
            "Servable not found for request: Specific(shop, 7)",
        ),
    ],
)
def test_an_unknown_model_or_version_is_not_found(
    client: http.client.HTTPConnection, method: str, path: str, message: str
) -> None:
    body = {"instances": ["hat"]} if method == "POST" else None
    assert send(client, method, path, body) == (404, {"error": message})


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc/passwd",
        "/v1/models/",
        "/v1/models/../shop",
        f"{SHOP}:classify",
        f"{SHOP}/versions/x",
        f"{SHOP}/versions/{'9' * 5000}",
        f"{SHOP}/metadata:predict",
    ],
)
def test_an_unknown_path_is_not_found(
    client: http.client.HTTPConnection, path: str
) -> None:
    for method, body in (("GET", None), ("POST", b"{}")):
        status, reply = send(client, method, path, body)
        assert status == 404
        assert reply["error"].startswith(f"unknown path {path}: known are /v1/models/")


def test_a_label_is_invalid(client: http.client.HTTPConnection) -> None:
    body = {"instances": ["hat"]}
    assert send(client, "POST", f"{SHOP}/labels/stable:predict", body) == (
        400,
        {"error": "Unrecognized servable version label: stable"},
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PREDICT, "POST"),
        ("DELETE", PREDICT, "POST"),
        ("POST", SHOP, "GET"),
        ("PUT", f"{SHOP}/metadata", "GET"),
    ],
)
def test_another_method_is_not_allowed(
    client: http.client.HTTPConnection, method: str, path: str, allowed: str
) -> None:
    client.request(method, path, b"{}")
    reply = client.getresponse()
    assert (reply.status, reply.headers["Allow"]) == (405, allowed)
    message = f"{path} takes {allowed}, not {method}"
    assert json.loads(reply.read()) == {"error": message}


def test_head_gets_no_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"HEAD {SHOP} HTTP/1.1\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.startswith(b"HTTP/1.1 405 ")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"instances": ["hat"',
            "the body is not valid JSON: Expecting ',' delimiter: line 1 column 21 (char 20)",
        ),
        (b"", "the body is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"instances": ["\xff"]}', "the body is not valid UTF-8"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (
            b'{"instances": [1e999]}',
            "the body is not valid JSON: the number 1e999... is too large",
        ),
        (
            b'{"instances": [' + b"9" * 5000 + b"]}",
            "the body is not valid JSON: the number 99999999999999999999... is too large",
        ),
        (b"[]", "the body must be a JSON object with `instances` or `inputs`"),
        (b"{}", "the body must hold either `instances` or `inputs`"),
        (
            b'{"instances": ["hat"], "inputs": ["hat"]}',
            "the body must hold either `instances` or `inputs`",
        ),
        (b'{"instances": []}', "instances must be a list of at least one row"),
        (b'{"instances": "hat"}', "instances must be a list of at least one row"),
        (
            b'{"signature_name": 1, "instances": ["hat"]}',
            "signature_name must be a string",
        ),
        (
            b'{"instances": [7]}',
            "input query must be of type DT_STRING, not a JSON number",
        ),
        (
            b'{"instances": ["hat", null]}',
            "input query must be of type DT_STRING, not a JSON null",
        ),
        (
            b'{"instances": [true]}',
            "input query must be of type DT_STRING, not a JSON boolean",
        ),
        (
            b'{"inputs": {"query": [{"a": 1}]}}',
            "input query must be of type DT_STRING, not a JSON object",
        ),
        (
            b'{"instances": [{"b64": "?"}]}',
            "input query holds a b64 that is no Base64 with its padding",
        ),
        (
            b'{"instances": ["\\ud83d"]}',
            "input query holds half of a surrogate pair, which is no text",
        ),
        (b'{"inputs": "hat"}', "input query must be of shape [any], not []"),
        (
            b'{"instances": [{"query": "cup"}, "hat"]}',
            "instance 1 differs from instance 0: each must be an object of the same input names, or none",
        ),
        (b'{"instances": [["hat"]]}', "input query must be of shape [any], not [1, 1]"),
        (
            b'{"instances": ["hat", ["cup"]]}',
            "input query must be a rectangle: its lists differ in length or depth",
        ),
        (
            b'{"instances": ["hat", {"query": "cup"}]}',
            "instance 1 differs from instance 0: each must be an object of the same input names, or none",
        ),
        (
            b'{"instances": [{"query": "hat"}, {"quarry": "cup"}]}',
            "instance 1 differs from instance 0: each must be an object of the same input names, or none",
        ),
        (
            b'{"inputs": {"quarry": ["hat"]}}',
            "inputs do not match the signature serving_default: it takes {query}, the request holds {quarry}. "
            "Sent extra: {quarry}. Missing but required: {query}.",
        ),
        (
            b'{"instances": [{}]}',
            "inputs do not match the signature serving_default: it takes {query}, the request holds {}. "
            "Sent extra: {}. Missing but required: {query}.",
        ),
        (
            b'{"signature_name": "\\ud83d", "inputs": {"\\ud83d": 1}}',
            "signature_name holds half of a surrogate pair, which is no text",
        ),
        (
            b'{"inputs": {"\\ud83d": ["hat"]}}',
            "inputs do not match the signature serving_default: it takes {query}, the request holds {\ud83d}. "
            "Sent extra: {\ud83d}. Missing but required: {query}.",
        ),
        (
            b'{"signature_name": "__saved_model_init_op", "inputs": ["hat"]}',
            'Serving signature key "__saved_model_init_op" not found: this model has '
            "{embed_item,embed_query,search_excluding,search_filtered,serving_default}.",
        ),
        (
            b'{"signature_name": "search_excluding", "instances": ["hat"]}',
            "the signature search_excluding takes several inputs, so the request must hold objects by input name: "
            "exclude, query",
        ),
        (
            b'{"signature_name": "embed_item", "inputs": {"title": ["hat"], "Brand__EU_": [""], "price": ["1"]}}',
            "input price must be of type DT_FLOAT, not a JSON string",
        ),
        (
            b'{"signature_name": "embed_item", "inputs": {"title": ["hat"], "Brand__EU_": [""], "price": [1e39]}}',
            "input price holds 1e+39, which is too large for DT_FLOAT",
        ),
        (b'{"instances": [""]}', "query must hold at least one letter or digit"),
        (
            json.dumps({"instances": ["hat"] * 1025}).encode(),
            "input query holds 1025 rows, at most 1024 are answered at once: send several requests",
        ),
    ],
)
def test_a_body_that_cannot_be_answered_gets_one_sentence(
    client: http.client.HTTPConnection, body: bytes, message: str
) -> None:
    assert send(client, "POST", PREDICT, body) == (400, {"error": message})
    # On the same connection.
    assert send(client, "GET", SHOP)[0] == 200


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNKNOWN, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
    ],
)
def test_codes_are_mapped_as_tensorflow_serving_maps_them(
    code: grpc.StatusCode, status: int
) -> None:
    assert RequestError(code, "why").http_status == status


def test_numbers_are_checked_against_what_the_signature_wants() -> None:
    whole = tensors.read_json("count", [1.0, -7], types_pb2.DT_INT32)
    spec = tf.TensorSpec([None], tf.int32)
    assert tensors.read_tensor("count", whole, spec).tolist() == [1, -7]
    for wrong in (0.5, 2**31, float("nan"), float("inf")):
        with pytest.raises(
            RequestError, match="count must hold whole numbers of type DT_INT32"
        ):
            tensors.read_json("count", [wrong], types_pb2.DT_INT32)
    for wrong in ("1", True, None):
        with pytest.raises(RequestError, match="must be of type DT_INT32, not a JSON"):
            tensors.read_json("count", [wrong], types_pb2.DT_INT32)
    proto = tensors.read_json("price", [1.0], types_pb2.DT_FLOAT)
    with pytest.raises(RequestError, match="of type DT_INT64, not DT_FLOAT"):
        tensors.read_tensor("count", proto, tf.TensorSpec([None], tf.int64))
