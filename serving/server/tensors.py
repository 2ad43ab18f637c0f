"""Between `TensorProto` messages or JSON, which anybody may have written, and arrays."""

import base64
import binascii
import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.server.errors import invalid

MAX_ROWS = 1024  # rows of one request; more are answered in several requests
# Of one tensor: a shape may promise more values than the message holds.
_MAX_VALUES = 1 << 22
_MAX_RANK = 254  # TensorFlow's own limit
_MAX_FLOAT = float(np.finfo(np.float32).max)
_WHOLE = {
    types_pb2.DT_INT32: (-(2**31), 2**31 - 1),
    # JSON's numbers are read as float64, which has every whole number up to this.
    types_pb2.DT_INT64: (-(2**53), 2**53),
}
_FIELDS = {  # where a TensorProto keeps values of a dtype, if not in tensor_content
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
}


def read_tensor(
    name: str, proto: tensor_pb2.TensorProto, spec: tf.TensorSpec
) -> np.ndarray:
    """Checks a tensor against the signature and gives its values.

    Args:
        name: The input's name, for messages.
        proto: Values in the dtype's own field or in `tensor_content`; of a repeated last value one copy is enough.
        spec: What the signature wants; dimensions may be None.

    Raises:
        RequestError: INVALID_ARGUMENT: another dtype or shape, or a message that does not hold what it promises.
    """
    if proto.dtype != spec.dtype.as_datatype_enum:
        found = (
            types_pb2.DataType.Name(proto.dtype)
            if proto.dtype in types_pb2.DataType.values()
            else proto.dtype
        )
        raise invalid(
            f"input {name} must be of type {types_pb2.DataType.Name(spec.dtype.as_datatype_enum)}, not {found}"
        )
    shape = _read_shape(name, proto.tensor_shape, spec.shape)
    size = math.prod(shape)
    if size > _MAX_VALUES:
        raise invalid(
            f"input {name} of shape {list(shape)} holds {size} values, at most {_MAX_VALUES} are taken"
        )
    if proto.tensor_content:
        return _read_content(name, proto, spec.dtype, shape)
    values = getattr(proto, _FIELDS[proto.dtype])
    if len(values) > size or (size and not values):
        raise invalid(
            f"input {name} of shape {list(shape)} must hold {size} values, not {len(values)}"
        )
    if spec.dtype == tf.string:
        array = np.empty(size, dtype=object)
        array[: len(values)] = values
        array[len(values) :] = values[-1] if values else b""
    else:
        array = np.fromiter(values, dtype=spec.dtype.as_numpy_dtype, count=len(values))
        array = np.concatenate([array, np.repeat(array[-1:], size - len(values))])
    return array.reshape(shape)


def write_tensor(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Puts string or float32 values into their own field, as TensorFlow Serving does, so that any client reads them.

    Args:
        array: The values.
        proto: Empty; filled in place, so that nothing is copied into a message afterwards.
    """
    if array.dtype == np.float32:
        proto.dtype = types_pb2.DT_FLOAT
        proto.float_val.extend(array.ravel().tolist())
    elif array.dtype == object:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size


def read_json(name: str, value: Any, dtype: int) -> tensor_pb2.TensorProto:
    """Puts a value of parsed JSON into a tensor, which `read_tensor` then checks against the signature.

    Args:
        name: The input's name, for messages.
        value: Nested lists of equal length, or a scalar. A string may also be `{"b64": ...}`, for arbitrary bytes.
        dtype: What the signature wants: DT_STRING, whole numbers, or else DT_FLOAT.

    Raises:
        RequestError: INVALID_ARGUMENT: lists of different lengths, or not of this dtype.
    """
    shape, values = tensor_shape_pb2.TensorShapeProto(), [value]
    while any(isinstance(v, list) for v in values):
        sizes = {len(v) if isinstance(v, list) else None for v in values}
        if len(sizes) > 1:
            raise invalid(
                f"input {name} must be a rectangle: its lists differ in length or depth"
            )
        shape.dim.add(size=sizes.pop())
        values = [element for v in values for element in v]
    if dtype == types_pb2.DT_STRING:
        strings = [_json_bytes(name, v) for v in values]
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, tensor_shape=shape, string_val=strings
        )
    if dtype in _WHOLE:
        return tensor_pb2.TensorProto(
            dtype=dtype,
            tensor_shape=shape,
            **{_FIELDS[dtype]: [_json_int(name, v, dtype) for v in values]},
        )
    numbers = [_json_float(name, v) for v in values]
    return tensor_pb2.TensorProto(
        dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=numbers
    )


def write_json(array: np.ndarray) -> list[Any]:
    """Nested lists, ready for JSON: float32 in its shortest form, strings as text, or `{"b64": ...}` if not UTF-8."""
    if array.dtype == object:
        return np.frompyfunc(_json_text, 1, 1)(array).tolist()
    if array.dtype == np.float32:
        # Each as float64 would show digits that float32 does not have: 0.2 as 0.20000000298023224.
        return array.astype("U").astype(np.float64).tolist()
    return array.tolist()


def is_json_bytes(value: Any) -> bool:
    """Whether a value of parsed JSON is `{"b64": ...}`, which stands for a string."""
    return (
        isinstance(value, dict)
        and value.keys() == {"b64"}
        and isinstance(value["b64"], str)
    )


def _json_bytes(name: str, value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return value.encode()
        if is_json_bytes(value):
            return base64.b64decode(value["b64"], validate=True)
    except UnicodeEncodeError:
        raise invalid(
            f"input {name} holds half of a surrogate pair, which is no text"
        ) from None
    except (binascii.Error, ValueError):
        raise invalid(
            f"input {name} holds a b64 that is no Base64 with its padding"
        ) from None
    raise invalid(
        f"input {name} must be of type DT_STRING, not a JSON {_json_type(value)}"
    )


def _json_float(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(
            f"input {name} must be of type DT_FLOAT, not a JSON {_json_type(value)}"
        )
    if math.isfinite(value) and abs(value) > _MAX_FLOAT:
        raise invalid(f"input {name} holds {value}, which is too large for DT_FLOAT")
    return value


def _json_int(name: str, value: Any, dtype: int) -> int:
    wanted = types_pb2.DataType.Name(dtype)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(
            f"input {name} must be of type {wanted}, not a JSON {_json_type(value)}"
        )
    smallest, largest = _WHOLE[dtype]
    if (
        not math.isfinite(value)
        or value != math.floor(value)
        or not smallest <= value <= largest
    ):
        raise invalid(
            f"input {name} must hold whole numbers of type {wanted}, not {value:g}"
        )
    return int(value)


def _json_type(value: Any) -> str:
    for kind, name in {bool: "boolean", str: "string", dict: "object"}.items():
        if isinstance(value, kind):
            return name
    return "null" if value is None else "number"


def _json_text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _read_shape(
    name: str, proto: tensor_shape_pb2.TensorShapeProto, wanted: tf.TensorShape
) -> tuple[int, ...]:
    rank = len(proto.dim)  # of a hostile message millions
    sizes = tuple(dim.size for dim in proto.dim) if rank <= _MAX_RANK else ()
    fits = (
        not proto.unknown_rank
        and len(sizes) == len(wanted)
        and all(
            size >= 0 and want in (None, size)
            for size, want in zip(sizes, wanted, strict=True)
        )
    )
    if not fits or rank > _MAX_RANK:
        found = (
            "an unknown rank"
            if proto.unknown_rank
            else f"{list(sizes)}"
            if rank <= _MAX_RANK
            else f"of {rank} dimensions"
        )
        shape = (
            "["
            + ", ".join("any" if size is None else str(size) for size in wanted)
            + "]"
        )
        raise invalid(f"input {name} must be of shape {shape}, not {found}")
    if sizes and sizes[0] > MAX_ROWS:
        raise invalid(
            f"input {name} holds {sizes[0]} rows, at most {MAX_ROWS} are answered at once: send several requests"
        )
    return sizes


def _read_content(
    name: str, proto: tensor_pb2.TensorProto, dtype: tf.DType, shape: tuple[int, ...]
) -> np.ndarray:
    if dtype == tf.string:
        raise invalid(
            f"input {name} must hold its strings in string_val, not in tensor_content"
        )
    wanted = math.prod(shape) * dtype.size
    if len(proto.tensor_content) != wanted:
        raise invalid(
            f"input {name} of shape {list(shape)} must hold {wanted} bytes in tensor_content, "
            f"not {len(proto.tensor_content)}"
        )
    return np.frombuffer(proto.tensor_content, dtype=dtype.as_numpy_dtype).reshape(
        shape
    )
