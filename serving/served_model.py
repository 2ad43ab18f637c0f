"""What every protocol answers from: the model that is served, and how its requests end."""

import collections
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from serving.errors import RequestError, invalid
from serving.manager import VersionManager
from serving.servable import Servable
from tfrs_mmse.cli import CommandError

MAX_REQUEST_BYTES = 16 << 20
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


class ServedModel:
    """What every protocol answers from: checks whom a request is for, and counts how requests end."""

    def __init__(
        self, manager: VersionManager, model_name: str, counts: RequestCounts
    ) -> None:
        self._manager, self.name, self._counts = manager, model_name, counts

    @contextmanager
    def answering(self, method: str) -> Iterator[None]:
        """Counts the request that the block answers.

        Args:
            method: Its name, for the log.

        Raises:
            RequestError: from the block, or INTERNAL for a bug of ours, whose inside only the log shows.
        """
        try:
            yield
        except RequestError as e:
            self._counts.add(e.code)
            raise
        except Exception as e:
            _LOG.exception("%s failed", method)
            self._counts.add(grpc.StatusCode.INTERNAL)
            raise RequestError(
                grpc.StatusCode.INTERNAL,
                "the server failed on this request; its log says why",
            ) from e
        self._counts.add(grpc.StatusCode.OK)

    def acquire(
        self, spec: model_pb2.ModelSpec
    ) -> AbstractContextManager[tuple[int, Servable]]:
        """The version and what answers for it; it is not unloaded before the block ends.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        return self._manager.acquire(self._version(spec))

    def status(
        self, spec: model_pb2.ModelSpec
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of one version, or of every version, newest first.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        wanted = self._version(spec)
        states = self._manager.states()
        if wanted is not None and wanted not in states:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find version {wanted} of model {self.name}",
            )
        reply = get_model_status_pb2.GetModelStatusResponse()
        for version in reversed(states) if wanted is None else [wanted]:
            state, code, message = states[version]
            status = reply.model_version_status.add(version=version, state=state)
            status.status.error_code, status.status.error_message = code, message
        return reply

    def signatures(
        self, spec: model_pb2.ModelSpec
    ) -> tuple[model_pb2.ModelSpec, get_model_metadata_pb2.SignatureDefMap]:
        """The version that answers, and its signatures.

        Raises:
            RequestError: INVALID_ARGUMENT or NOT_FOUND: there is no such model or version.
        """
        with self.acquire(spec) as (version, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=dict(servable.signature_defs)
            )
        answering = model_pb2.ModelSpec(name=self.name)
        answering.version.value = version
        return answering, signatures

    def _version(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version that a request asks for, or None for the one that is served."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self.name:
            wanted = (
                f"Latest({spec.name})"
                if version is None
                else f"Specific({spec.name}, {version})"
            )
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {wanted}: this server has the model {self.name}",
            )
        return version


def cannot_listen(host: str, port: int, advice: str) -> CommandError:
    """Why a server does not start."""
    return CommandError(
        f"cannot listen on {host}:{port}: another program uses the port, or it may not be used; {advice}"
    )
