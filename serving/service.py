"""TensorFlow Serving's gRPC services over a `VersionManager`."""

import collections
import functools
import logging
import threading
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
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

MAX_REQUEST_BYTES = 16 << 20
_SIGNATURE_DEF = "signature_def"
_LOG = logging.getLogger(__name__)


class RequestCounts:
    """How many requests ended with which status code, by its name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, code: grpc.StatusCode) -> None:
        """Counts one request."""
        with self._lock:
            self._counts[code.name] += 1

    def to_dict(self) -> dict[str, int]:
        """A copy of the counts."""
        with self._lock:
            return dict(sorted(self._counts.items()))


def _answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turns `RequestError` into the call's status, and counts every call.

    gRPC drops a call whose deadline passes before a worker takes it, so none of those arrives here.
    """

    @functools.wraps(method)
    def answer(self: "_Servicer", request: Any, context: grpc.ServicerContext) -> Any:
        try:
            reply = method(self, request)
        except RequestError as e:
            code, message = e.code, e.message
        except (
            Exception
        ):  # a bug of ours must not show its inside to the caller; the log has it
            _LOG.exception("%s failed", method.__name__)
            code, message = (
                grpc.StatusCode.INTERNAL,
                "the server failed on this request; its log says why",
            )
        else:
            self.counts.add(grpc.StatusCode.OK)
            return reply
        self.counts.add(code)
        context.abort(code, message)

    return answer


class _Servicer:
    def __init__(
        self, manager: VersionManager, model_name: str, counts: RequestCounts
    ) -> None:
        self.manager, self.model_name, self.counts = manager, model_name, counts

    def _version(self, request: Any) -> int | None:
        """The version that a request asks for, or None for the one that is served."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self.model_name:
            wanted = (
                f"Latest({spec.name})"
                if version is None
                else f"Specific({spec.name}, {version})"
            )
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {wanted}: this server has the model {self.model_name}",
            )
        return version


class PredictionServicer(
    _Servicer, prediction_service_pb2_grpc.PredictionServiceServicer
):
    """`Predict` and `GetModelMetadata`; the other methods answer UNIMPLEMENTED."""

    @_answered
    def Predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        with self.manager.acquire(self._version(request)) as (version, servable):
            outputs = servable.predict(
                request.model_spec.signature_name, request.inputs, request.output_filter
            )
        spec = model_pb2.ModelSpec(
            name=self.model_name,
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
        wanted = self._version(request)
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(
                    f"Metadata field {field} is not supported: ask for {_SIGNATURE_DEF}"
                )
        with self.manager.acquire(wanted) as (version, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=dict(servable.signature_defs)
            )
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.model_spec.name = self.model_name
        reply.model_spec.version.value = version
        reply.metadata[_SIGNATURE_DEF].Pack(signatures)
        return reply


class ModelServicer(_Servicer, model_service_pb2_grpc.ModelServiceServicer):
    """`GetModelStatus`; the other method answers UNIMPLEMENTED."""

    @_answered
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        wanted = self._version(request)
        states = self.manager.states()
        if wanted is not None and wanted not in states:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find version {wanted} of model {self.model_name}",
            )
        reply = get_model_status_pb2.GetModelStatusResponse()
        for version in reversed(states) if wanted is None else [wanted]:
            state, code, message = states[version]
            status = reply.model_version_status.add(version=version, state=state)
            status.status.error_code, status.status.error_message = code, message
        return reply


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
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(manager, model_name, counts), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(manager, model_name, counts), self._server
        )
        try:
            self.port = self._server.add_insecure_port(
                f"{f'[{host}]' if ':' in host else host}:{port}"
            )
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise CommandError(
                f"cannot listen on {host}:{port}: another program uses the port, or it may not be used; "
                "choose another --port (0 picks a free one)"
            )
        self._server.start()

    def stop(self, grace: float) -> None:
        """Takes no more requests, and waits up to `grace` seconds until the accepted ones are answered."""
        self._server.stop(grace).wait()
