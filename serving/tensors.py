"""Between `TensorProto` messages, which anybody may have written, and arrays."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.errors import invalid

MAX_ROWS = 1024  # rows of one request; more are answered in several requests
# Of one tensor: a shape may promise more values than the message holds.
_MAX_VALUES = 1 << 22
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


def write_tensor(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Puts string or float32 values into their own field, as TensorFlow Serving does, so that any client reads them."""
    shape = tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    )
    if array.dtype == np.float32:
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_FLOAT,
            tensor_shape=shape,
            float_val=array.ravel().tolist(),
        )
    if array.dtype == object:
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING,
            tensor_shape=shape,
            string_val=array.ravel().tolist(),
        )
    return tf.make_tensor_proto(array)


def _read_shape(
    name: str, proto: tensor_shape_pb2.TensorShapeProto, wanted: tf.TensorShape
) -> tuple[int, ...]:
    sizes = tuple(dim.size for dim in proto.dim)
    fits = (
        not proto.unknown_rank
        and len(sizes) == len(wanted)
        and all(
            size >= 0 and want in (None, size)
            for size, want in zip(sizes, wanted, strict=True)
        )
    )
    if not fits:
        found = "an unknown rank" if proto.unknown_rank else f"{list(sizes)}"
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
