"""TensorFlow Serving's REST API without the HTTP: from a path's parts and a JSON body to a JSON reply."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import model_pb2

from serving.server import tensors
from serving.server.errors import invalid
from serving.server.models import Models
from tfrs_mmse import schema


class _PredictRequest(NamedTuple):
    """The body of a prediction.

    Attributes:
        signature_name: Empty for the default.
        values: Of `instances` or of `inputs`.
        by_row: Whether they are `instances`.
    """

    signature_name: str
    values: Any
    by_row: bool


def answer(
    models: Models,
    spec: model_pb2.ModelSpec,
    verb: str | None,
    body: bytes,
    *,
    seconds: float,
) -> dict[str, Any]:
    """Answers one request.

    Args:
        models: Who answers.
        spec: The model and version that the path names.
        verb: `/metadata`, `:predict`, or None for the status.
        body: JSON, for a prediction.
        seconds: Until the answer is of no use.

    Raises:
        RequestError: with the code that TensorFlow Serving gives.
    """
    if verb is None:
        return _to_dict(models.status(spec))
    if verb == "/metadata":
        answering, signatures = models.signatures(spec)
        return {
            "model_spec": _to_dict(answering),
            "metadata": {"signature_def": _to_dict(signatures)},
        }
    request = _parse(body)
    spec.signature_name = request.signature_name
    inputs = _inputs(request, models.input_types(spec))
    outputs = models.predict(spec, inputs, seconds=seconds).outputs()
    columns = {name: tensors.write_json(array) for name, array in outputs.items()}
    if not request.by_row:
        return {"outputs": _alone(columns)}
    rows = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    return {"predictions": [_alone(row) for row in rows]}


def _parse(body: bytes) -> _PredictRequest:
    try:
        request = json.loads(
            body.decode(), parse_int=_parse_number, parse_float=_parse_number
        )
    except UnicodeDecodeError:
        raise invalid("the body is not valid UTF-8") from None
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except ValueError as e:
        raise invalid(f"the body is not valid JSON: {e}") from None
    if not isinstance(request, dict):
        raise invalid("the body must be a JSON object with `instances` or `inputs`")
    signature_name = request.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise invalid("signature_name must be a string")
    if not _is_text(signature_name):
        raise invalid("signature_name holds half of a surrogate pair, which is no text")
    if ("instances" in request) == ("inputs" in request):
        raise invalid("the body must hold either `instances` or `inputs`")
    if "inputs" in request:
        return _PredictRequest(signature_name, request["inputs"], by_row=False)
    instances = request["instances"]
    if not isinstance(instances, list) or not instances:
        raise invalid("instances must be a list of at least one row")
    return _PredictRequest(signature_name, instances, by_row=True)


def _is_text(value: str) -> bool:
    """Whether it has a form in UTF-8; JSON's escapes can spell strings that have none."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]}... is too large")
    return number


def _inputs(
    request: _PredictRequest, dtypes: Mapping[str, int]
) -> dict[str, tensor_pb2.TensorProto]:
    """One tensor for each input that the request names; which of them there should be is checked with their types."""
    if not dtypes:
        return {}
    signature_name = request.signature_name or schema.SERVING_DEFAULT
    columns = _columns(request)
    if columns is None:
        if len(dtypes) != 1:
            raise invalid(
                f"the signature {signature_name} takes several inputs, so the request must hold objects by input "
                f"name: {', '.join(sorted(dtypes))}"
            )
        columns = dict.fromkeys(dtypes, request.values)
    return {
        name: (
            tensors.read_json(name, value, dtypes[name])
            if name in dtypes
            else tensor_pb2.TensorProto()
        )
        for name, value in columns.items()
    }


def _columns(request: _PredictRequest) -> Mapping[str, Any] | None:
    """The values by input name, or None if they have no name."""
    if not request.by_row:
        return request.values if _is_named(request.values) else None
    first, *others = request.values
    keys = first.keys() if _is_named(first) else None
    for place, row in enumerate(others, start=1):
        if (row.keys() if _is_named(row) else None) != keys:
            raise invalid(
                f"instance {place} differs from instance 0: each must be an object of the same input names, or none"
            )
    if keys is None:
        return None
    return {name: [row[name] for row in request.values] for name in keys}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not tensors.is_json_bytes(value)


def _alone(named: dict[str, Any]) -> Any:
    """A single output goes without its name."""
    return next(iter(named.values())) if len(named) == 1 else named


def _to_dict(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
    )
