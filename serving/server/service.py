"""TensorFlow Serving's gRPC services over `Models`."""

import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)

from serving.server import tensors
from serving.server.batcher import Arrays
from serving.server.errors import RequestError, internal, invalid
from serving.server.metrics import GRPC, Metrics
from serving.server.models import Models, Prediction
from serving.server.rpc import Handler, Rpc

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PREDICT = f"/{PREDICTION_SERVICE}/Predict"
_SIGNATURE_DEF = "signature_def"
_LOG = logging.getLogger(__name__)
_Method = Callable[[Any, Rpc], Message | Prediction]


class Services:
    """The methods of both services that are answered.

    Attributes:
        handlers: By path, `/SERVICE/METHOD`.
    """

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models, self._metrics = models, metrics
        methods: dict[str, tuple[type[Message], _Method]] = {
            PREDICT: (predict_pb2.PredictRequest, self.predict),
            f"/{PREDICTION_SERVICE}/GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                self.get_model_metadata,
            ),
            f"/{MODEL_SERVICE}/GetModelStatus": (
                get_model_status_pb2.GetModelStatusRequest,
                self.get_model_status,
            ),
            f"/{MODEL_SERVICE}/HandleReloadConfigRequest": (
                model_management_pb2.ReloadConfigRequest,
                self.refuse_config,
            ),
        }
        self.handlers: dict[str, Handler] = {
            path: functools.partial(self._answer, *method)
            for path, method in methods.items()
        }

    def admit(self, rpc: Rpc) -> bool:
        """Refuses a call that has no chance to be answered in time: under load, the less is done for it the better."""
        if rpc.method != PREDICT:
            return True
        try:
            self._models.admit(rpc.time_remaining, rpc.waited)
        except RequestError as e:
            _Call(rpc, self._metrics.begin(None, "Predict", GRPC)).refuse(e)
            return False
        return True

    def predict(self, request: predict_pb2.PredictRequest, rpc: Rpc) -> Prediction:
        """`PredictionService.Predict`."""
        return self._models.predict(
            request.model_spec,
            request.inputs,
            request.output_filter,
            seconds=rpc.time_remaining,
        )

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, rpc: Rpc
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """`PredictionService.GetModelMetadata`."""
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(
                    f"Metadata field {field} is not supported: ask for {_SIGNATURE_DEF}"
                )
        spec, signatures = self._models.signatures(request.model_spec)
        reply = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
        reply.metadata[_SIGNATURE_DEF].Pack(signatures)
        return reply

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest, rpc: Rpc
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """`ModelService.GetModelStatus`."""
        return self._models.status(request.model_spec)

    def refuse_config(
        self, request: model_management_pb2.ReloadConfigRequest, rpc: Rpc
    ) -> Message:
        """`ModelService.HandleReloadConfigRequest`: what is served is decided by who starts the server."""
        raise RequestError(
            grpc.StatusCode.PERMISSION_DENIED,
            "paths do not come over the network: edit the file of --model_config_file, which is read again",
        )

    def _answer(
        self, request_type: type[Message], method: _Method, rpc: Rpc, data: bytes
    ) -> None:
        name = request_type.DESCRIPTOR.name
        try:
            request: Any = request_type.FromString(data)
        except DecodeError:
            request = None
        model = "" if request is None else _model(request)
        end = self._metrics.begin(model, name.removesuffix("Request"), GRPC)
        call = _Call(rpc, end)
        try:
            if request is None:
                raise invalid(f"the request is not a {name}")
            if model is None:
                raise invalid("Missing ModelSpec")
            reply = method(request, rpc)
        except Exception as e:
            call.refuse(e)
            return
        if isinstance(reply, Message):
            call.reply(reply)
        else:
            rpc.when_gone(reply.arrays.cancel)
            # Not the prediction, which holds what would hold it.
            finish = functools.partial(_finish, call, reply.spec, reply.names)
            reply.arrays.add_done_callback(finish)


class _Call(NamedTuple):
    """A call that is counted when it is answered."""

    rpc: Rpc
    end: Callable[[grpc.StatusCode], None]

    def reply(self, message: Message) -> None:
        data = message.SerializeToString()
        status = grpc.StatusCode
        # Before it is answered, so that who has the answer finds it counted.
        self.end(status.CANCELLED if self.rpc.is_over else status.OK)
        self.rpc.finish(data)

    def refuse(self, error: BaseException) -> None:
        if not isinstance(error, RequestError):
            _LOG.error("%s failed", self.rpc.method, exc_info=error)
            error = internal()
        self.end(error.code)
        self.rpc.fail(error.code, error.message)


def _finish(
    call: _Call,
    spec: model_pb2.ModelSpec,
    names: Sequence[str],
    arrays: Future[Arrays],
) -> None:
    """Answers with what was computed, or says why not."""
    if arrays.cancelled():  # its client has gone
        call.end(grpc.StatusCode.CANCELLED)
        return
    # Not raised, for its traceback would hold what holds it.
    error = arrays.exception()
    try:
        if error is None:
            message = predict_pb2.PredictResponse(model_spec=spec)
            for name, array in zip(names, arrays.result(), strict=True):
                tensors.write_tensor(array, message.outputs[name])
            call.reply(message)
    except Exception as e:
        error = e
    if error is not None:
        call.refuse(error)


def _model(request: Any) -> str | None:
    """The model that a request names; None where it should and does not."""
    if "model_spec" not in request.DESCRIPTOR.fields_by_name:
        return ""
    return request.model_spec.name if request.HasField("model_spec") else None
