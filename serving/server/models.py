"""What every protocol answers from: the models that are served."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from serving.server.batcher import Arrays, Batcher
from serving.server.errors import RequestError, invalid
from serving.server.loading import load
from serving.server.manager import Lease, VersionManager, VersionState
from serving.server.metrics import Metrics
from serving.server.model_config import ModelConfig
from serving.server.servable import Servable
from tfrs_mmse import schema
from tfrs_mmse.cli import say

MAX_REQUEST_BYTES = 16 << 20


class Prediction(NamedTuple):
    """The answer to a `Predict`, or what will be it.

    Attributes:
        spec: The model, version and signature that answer.
        names: Of the outputs.
        arrays: The outputs, in their order, or a `RequestError`.
    """

    spec: model_pb2.ModelSpec
    names: tuple[str, ...]
    arrays: Future[Arrays]

    def outputs(self) -> dict[str, np.ndarray]:
        """Waits for the arrays, by output name."""
        return dict(zip(self.names, self.arrays.result(), strict=True))


class Models:
    """The models by name: checks whom a request is for and has it answered.

    Reading the disk (`configure`, `refresh`) is for one thread; the rest may be called from anywhere.
    """

    def __init__(
        self,
        configs: Iterable[ModelConfig],
        *,
        batcher: Batcher,
        metrics: Metrics,
        load: Callable[[Path], Servable] = load,
    ) -> None:
        self._batcher, self._metrics, self._load = batcher, metrics, load
        self._managers: dict[str, VersionManager] = {}
        self.configure(configs)

    def configure(self, configs: Iterable[ModelConfig]) -> None:
        """Takes a new list of models: those that are not in it are no longer served."""
        managers = {}
        for config in configs:
            manager = self._managers.get(config.name)
            if manager is None:
                manager = VersionManager(config, load=self._load)
            manager.config = config
            managers[config.name] = manager
        gone = [m for name, m in self._managers.items() if name not in managers]
        self._managers = managers
        for manager in gone:
            manager.close()
            self._metrics.set_versions(manager.config.name, [])
            say(f"{manager.config.name} is no longer served")

    def refresh(self) -> None:
        """Looks at the disk once; requests go on meanwhile."""
        for name, manager in self._managers.items():
            manager.refresh()
            self._metrics.set_versions(name, manager.versions)

    def versions(self) -> dict[str, list[int]]:
        """The versions that are served, newest first, by model."""
        return {name: manager.versions for name, manager in self._managers.items()}

    def states(self, name: str) -> dict[int, VersionState]:
        """The state of every version of a model met so far."""
        return self._managers[name].states()

    def base_path(self, name: str) -> Path:
        """Where a model's versions lie."""
        return self._managers[name].config.base_path

    def close(self) -> None:
        """Unloads everything, each version when its last request is answered."""
        for manager in self._managers.values():
            manager.close()

    def admit(self, seconds: float, waited: float) -> None:
        """Refuses a `Predict` before it is read, if it would wait too long; see `Batcher.admit`."""
        self._batcher.admit(time.monotonic() + seconds, waited)

    def predict(
        self,
        spec: model_pb2.ModelSpec,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str] = (),
        *,
        seconds: float = math.inf,
    ) -> Prediction:
        """Has one `Predict` answered.

        Args:
            spec: Whom it is for.
            inputs: TensorProto by input name.
            output_filter: Outputs wanted; all, if empty.
            seconds: Until the answer is of no use.

        Raises:
            RequestError: with the code that TensorFlow Serving gives, or RESOURCE_EXHAUSTED.
        """
        deadline = time.monotonic() + seconds
        lease = self._acquire(spec)
        try:
            servable = lease.servable
            call = servable.check(spec.signature_name, inputs, output_filter)
            arrays = self._batcher.submit(servable, call, deadline)
        except BaseException:
            lease.release()
            raise
        arrays.add_done_callback(lambda _: lease.release())
        answering = model_pb2.ModelSpec(
            name=spec.name, signature_name=call.signature_name
        )
        answering.version.value = lease.version
        return Prediction(answering, call.outputs, arrays)

    def status(
        self, spec: model_pb2.ModelSpec
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of one version, or of every version, newest first.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        manager = self._manager(spec)
        states = manager.states()
        wanted = spec.version.value if spec.HasField("version") else None
        if spec.HasField("version_label"):
            with manager.acquire(label=spec.version_label) as lease:
                wanted = lease.version
        if wanted is not None and wanted not in states:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find version {wanted} of model {spec.name}",
            )
        reply = get_model_status_pb2.GetModelStatusResponse()
        for version in reversed(states) if wanted is None else [wanted]:
            state, code, message = states[version]
            status = reply.model_version_status.add(version=version, state=state)
            status.status.error_code, status.status.error_message = code, message
        return reply

    def input_types(self, spec: model_pb2.ModelSpec) -> dict[str, int]:
        """The `DataType` of each input of a signature; nothing, if the model has no such signature.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        with self._acquire(spec) as lease:
            name = spec.signature_name or schema.SERVING_DEFAULT
            signature = dict(lease.servable.signature_defs).get(name)
            return (
                {k: v.dtype for k, v in signature.inputs.items()} if signature else {}
            )

    def signatures(
        self, spec: model_pb2.ModelSpec
    ) -> tuple[model_pb2.ModelSpec, get_model_metadata_pb2.SignatureDefMap]:
        """The version that answers, and its signatures.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        with self._acquire(spec) as lease:
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=dict(lease.servable.signature_defs)
            )
        answering = model_pb2.ModelSpec(name=spec.name)
        answering.version.value = lease.version
        return answering, signatures

    def _acquire(self, spec: model_pb2.ModelSpec) -> Lease:
        manager = self._manager(spec)
        match spec.WhichOneof("version_choice"):
            case "version":
                return manager.acquire(spec.version.value)
            case "version_label":
                return manager.acquire(label=spec.version_label)
        return manager.acquire()

    def _manager(self, spec: model_pb2.ModelSpec) -> VersionManager:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        manager = self._managers.get(spec.name)
        if manager is None:
            wanted = (
                f"Specific({spec.name}, {spec.version.value})"
                if spec.HasField("version")
                else f"Latest({spec.name})"
            )
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {wanted}: this server has {', '.join(sorted(self._managers))}",
            )
        return manager
