"""TensorFlow Serving's gRPC services over a `ServedModel`, and the server that listens for them."""

import functools
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import tensors
from serving.errors import RequestError, invalid
from serving.manager import VersionManager
from serving.served_model import (
    MAX_REQUEST_BYTES,
    RequestCounts,
    ServedModel,
    cannot_listen,
)
from tfrs_mmse import schema

_SIGNATURE_DEF = "signature_def"


def _answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turns `RequestError` into the call's status, and counts every call.

    gRPC drops a call whose deadline passes before a worker takes it, so none of those arrives here.
    """

    @functools.wraps(method)
    def answer(self: "_Servicer", request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with self.model.answering(method.__name__):
                if not request.HasField("model_spec"):
                    raise invalid("Missing ModelSpec")
                return method(self, request)
        except RequestError as e:
            context.abort(e.code, e.message)

    return answer


class _Servicer:
    def __init__(self, model: ServedModel) -> None:
        self.model = model


class PredictionServicer(
    _Servicer, prediction_service_pb2_grpc.PredictionServiceServicer
):
    """`Predict` and `GetModelMetadata`; the other methods answer UNIMPLEMENTED."""

    @_answered
    def Predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        with self.model.acquire(request.model_spec) as (version, servable):
            outputs = servable.predict(
                request.model_spec.signature_name, request.inputs, request.output_filter
            )
        spec = model_pb2.ModelSpec(
            name=self.model.name,
            signature_name=request.model_spec.signature_name or schema.SERVING_DEFAULT,
        )
        spec.version.value = version
        return predict_pb2.PredictResponse(
            model_spec=spec,
            outputs={
                name: tensors.write_tensor(array) for name, array in outputs.items()
            },
        )

    @_answered
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(
                    f"Metadata field {field} is not supported: ask for {_SIGNATURE_DEF}"
                )
        spec, signatures = self.model.signatures(request.model_spec)
        reply = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
        reply.metadata[_SIGNATURE_DEF].Pack(signatures)
        return reply


class ModelServicer(_Servicer, model_service_pb2_grpc.ModelServiceServicer):
    """`GetModelStatus`; the other method answers UNIMPLEMENTED."""

    @_answered
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return self.model.status(request.model_spec)


class BoundServer:
    """A gRPC server that listens.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self,
        manager: VersionManager,
        model_name: str,
        counts: RequestCounts,
        *,
        host: str,
        port: int,
        max_workers: int,
    ) -> None:
        """Binds and starts.

        Args:
            manager: Holds the versions.
            model_name: The only model that is served.
            counts: Where requests are counted.
            host: Address to listen on.
            port: Port, or 0 for a free one.
            max_workers: Requests that are answered at the same time; more of them wait.

        Raises:
            CommandError: the port is in use or may not be used.
        """
        self._server = grpc.server(
            futures.ThreadPoolExecutor(
                max_workers=max_workers, thread_name_prefix="request"
            ),
            options=[
                # Two servers on one port would share the requests between them.
                (
                    "grpc.so_reuseport",
                    0,
                ),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
            ],
        )
        model = ServedModel(manager, model_name, counts)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(model), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(model), self._server
        )
        try:
            self.port = self._server.add_insecure_port(
                f"{f'[{host}]' if ':' in host else host}:{port}"
            )
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise cannot_listen(
                host, port, "choose another --port (0 picks a free one)"
            )
        self._server.start()

    def stop(self, grace: float) -> None:
        """Takes no more requests, and waits up to `grace` seconds until the accepted ones are answered."""
        self._server.stop(grace).wait()
