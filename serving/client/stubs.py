"""The messages of TensorFlow Serving's `Predict`, without running TensorFlow.

The official stubs import `tensorflow.core.framework`, and so all of TensorFlow: seconds and hundreds of megabytes in a
process that only asks. The messages themselves need nothing but protobuf. So they are imported while an empty package
stands where TensorFlow is; it is gone when this module is loaded, and TensorFlow can be imported before or after,
with the same classes. What is imported by another thread in just that moment would see the empty package: import this
module, as others, before threads start.
"""

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

_TENSORFLOW = "tensorflow"


@contextmanager
def _empty_tensorflow() -> Iterator[None]:
    spec = None
    if _TENSORFLOW not in sys.modules:
        # Looks for it, and does not run it.
        spec = importlib.util.find_spec(_TENSORFLOW)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    empty = types.ModuleType(_TENSORFLOW)
    empty.__path__ = list(spec.submodule_search_locations)
    sys.modules[_TENSORFLOW] = empty
    try:
        yield
    finally:
        for name in list(sys.modules):
            if name.split(".")[0] == _TENSORFLOW:
                del sys.modules[name]


with _empty_tensorflow():
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import predict_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"

PredictRequest = predict_pb2.PredictRequest
PredictResponse = predict_pb2.PredictResponse
TensorProto = tensor_pb2.TensorProto
DT_FLOAT, DT_STRING = types_pb2.DT_FLOAT, types_pb2.DT_STRING
DT_INT32, DT_INT64 = types_pb2.DT_INT32, types_pb2.DT_INT64
