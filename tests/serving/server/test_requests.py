"""What requests get, over a real socket and with the official stubs."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tests.serving.stubs import Stubs, connect, predict_request, refusal, status_of

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def stubs(served: Any) -> Iterator[Stubs]:
    with grpc.insecure_channel(served.target) as channel:
        yield connect(channel)


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
        "Servable not found for request: Latest(other): this server has shop",
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
        "{embed_item,embed_query,search_excluding,search_filtered,serving_default}."
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


def test_a_crowd_of_inputs_is_counted_and_not_named(stubs: Stubs) -> None:
    request = predict_request(query=["hat"], **{f"i{n}": ["x"] for n in range(200)})
    assert refusal(stubs.prediction.Predict, request) == (
        INVALID,
        "inputs do not match the signature serving_default: it takes {query}, the request holds 201",
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
        (
            _strings([1] * 100_000, b"hat"),
            "input query must be of shape [any], not of 100000 dimensions",
        ),
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
