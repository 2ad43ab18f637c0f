"""TensorFlow Serving's gRPC services over `Models`."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.server import tensors
from serving.server.errors import RequestError, internal, invalid
from serving.server.metrics import GRPC, Metrics
from serving.server.models import Models

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
_SIGNATURE_DEF = "signature_def"
_LOG = logging.getLogger(__name__)
_Method = Callable[..., Awaitable[Message]]


class Services:
    """The methods of both services that are answered; gRPC answers the others with UNIMPLEMENTED."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models, self._metrics = models, metrics

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What an asyncio server is to be given."""
        prediction = {
            "Predict": self._handler(predict_pb2.PredictRequest, self.predict),
            "GetModelMetadata": self._handler(
                get_model_metadata_pb2.GetModelMetadataRequest, self.get_model_metadata
            ),
        }
        model = {
            "GetModelStatus": self._handler(
                get_model_status_pb2.GetModelStatusRequest, self.get_model_status
            ),
            "HandleReloadConfigRequest": self._handler(
                model_management_pb2.ReloadConfigRequest, self.refuse_config
            ),
        }
        return [
            grpc.method_handlers_generic_handler(PREDICTION_SERVICE, prediction),
            grpc.method_handlers_generic_handler(MODEL_SERVICE, model),
        ]

    async def predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """`PredictionService.Predict`."""
        prediction = await self._models.predict(
            request.model_spec,
            request.inputs,
            request.output_filter,
            seconds=context.time_remaining(),
        )
        return predict_pb2.PredictResponse(
            model_spec=prediction.spec,
            outputs={
                name: tensors.write_tensor(array)
                for name, array in prediction.outputs.items()
            },
        )

    async def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
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

    async def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """`ModelService.GetModelStatus`."""
        return self._models.status(request.model_spec)

    async def refuse_config(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: grpc.aio.ServicerContext,
    ) -> model_management_pb2.ReloadConfigResponse:
        """`ModelService.HandleReloadConfigRequest`: what is served is decided by who starts the server."""
        raise RequestError(
            grpc.StatusCode.PERMISSION_DENIED,
            "paths do not come over the network: edit the file of --model_config_file, which is read again",
        )

    def _handler(
        self, request_type: type[Message], method: _Method
    ) -> grpc.RpcMethodHandler:
        # Requests are parsed here: gRPC would answer what cannot be parsed with UNKNOWN and a traceback in the log.
        return grpc.unary_unary_rpc_method_handler(
            functools.partial(self._answer, request_type, method),
            response_serializer=lambda reply: reply.SerializeToString(),
        )

    async def _answer(
        self,
        request_type: type[Message],
        method: _Method,
        data: bytes,
        context: grpc.aio.ServicerContext,
    ) -> Message:
        """Counts a call, and turns `RequestError` into its status."""
        name = request_type.DESCRIPTOR.name.removesuffix("Request")
        try:
            request: Any = request_type.FromString(data)
        except DecodeError:
            request = None
        model = "" if request is None else _model(request)
        with self._metrics.request(model, name, GRPC) as end:
            try:
                if request is None:
                    raise invalid(
                        f"the request is not a {request_type.DESCRIPTOR.name}"
                    )
                if model is None:
                    raise invalid("Missing ModelSpec")
                return await method(request, context)
            except RequestError as e:
                error = e
            except asyncio.CancelledError:  # the client went away, or its deadline came
                end(grpc.StatusCode.CANCELLED)
                raise
            except Exception:
                _LOG.exception("%s failed", name)
                error = internal()
            end(error.code)
        await context.abort(error.code, error.message)
        raise AssertionError("abort raises")


def _model(request: Any) -> str | None:
    """The model that a request names; None where it should and does not."""
    if "model_spec" not in request.DESCRIPTOR.fields_by_name:
        return ""
    return request.model_spec.name if request.HasField("model_spec") else None
