"""Which version of the model is served: loads the newest on disk, and unloads the one before when nobody uses it."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from serving.errors import RequestError
from serving.servable import Servable
from serving.versions import list_versions
from tfrs_mmse.cli import CommandError, say

_State = get_model_status_pb2.ModelVersionStatus
_Identity = tuple[int, int, int]
_LOG = logging.getLogger(__name__)


class VersionState(NamedTuple):
    """What `GetModelStatus` tells of one version.

    Attributes:
        state: A `ModelVersionStatus.State`.
        code: A gRPC status number; 0 unless the version was refused.
        message: Why it was refused.
    """

    state: int
    code: int = 0
    message: str = ""


@dataclasses.dataclass(eq=False)
class _Loaded:
    version: int
    identity: _Identity
    servable: Servable
    in_use: int = 0
    retired: bool = False


class VersionManager:
    """Serves the newest version that can be served.

    The new one is loaded before the old one goes, so both are in memory for a while. A version that cannot be loaded
    is refused once, with the reason in its state, until its directory is replaced; the one before goes on serving.
    When the newest directory is removed, the newest that is left is loaded: that is how to roll back.
    """

    def __init__(
        self,
        base_path: Path,
        model_name: str,
        *,
        load: Callable[[Path], Servable] = Servable,
    ) -> None:
        self._base_path, self._model_name, self._load = base_path, model_name, load
        self._lock = threading.Lock()
        self._current: _Loaded | None = None
        self._states: dict[int, VersionState] = {}
        self._refused: dict[int, _Identity] = {}

    @property
    def version(self) -> int | None:
        """The version that is served."""
        with self._lock:
            return self._current.version if self._current else None

    def refresh(self) -> None:
        """Looks at the disk once. To be called from one thread at a time; requests go on meanwhile."""
        for version in list_versions(self._base_path):
            directory = self._base_path / str(version)
            try:
                identity = _identity(directory)
            except FileNotFoundError:
                continue  # removed since it was listed
            current = self._current
            if current and (current.version, current.identity) == (version, identity):
                return
            if self._refused.get(version) != identity and self._try(
                version, directory, identity
            ):
                return

    def states(self) -> dict[int, VersionState]:
        """The state of every version met so far, by number."""
        with self._lock:
            return dict(sorted(self._states.items()))

    @contextmanager
    def acquire(self, version: int | None) -> Iterator[tuple[int, Servable]]:
        """The version to answer with, which is not unloaded before the block ends.

        Args:
            version: A version number, or None for the one that is served.

        Raises:
            RequestError: NOT_FOUND: it is not loaded.
        """
        with self._lock:
            loaded = self._current
            if loaded is None or version not in (None, loaded.version):
                wanted = (
                    f"Latest({self._model_name})"
                    if version is None
                    else f"Specific({self._model_name}, {version})"
                )
                raise RequestError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Servable not found for request: {wanted}",
                )
            loaded.in_use += 1
        try:
            yield loaded.version, loaded.servable
        finally:
            with self._lock:
                loaded.in_use -= 1
                last = loaded.retired and not loaded.in_use
            if last:
                self._unload(loaded)

    def close(self) -> None:
        """Unloads what is served, when its last request is answered."""
        self._replace(None)

    def _try(self, version: int, directory: Path, identity: _Identity) -> bool:
        self._set_state(version, _State.LOADING)
        try:
            servable = self._load(directory)
        except (
            Exception
        ) as e:  # whatever is wrong with a new version, the old one must go on serving
            expected = isinstance(e, CommandError | RequestError | OSError)
            _LOG.log(
                logging.DEBUG if expected else logging.ERROR,
                "cannot load %s",
                directory,
                exc_info=e,
            )
            self._refused[version] = identity
            code = (
                e.code
                if isinstance(e, RequestError)
                else grpc.StatusCode.FAILED_PRECONDITION
            )
            message = (
                str(e)
                if expected
                else f"{directory} cannot be loaded ({type(e).__name__}: {_first_line(e)})"
            )
            self._set_state(version, _State.END, code.value[0], message)
            say(f"refused {self._model_name} version {version}: {message}")
            return False
        self._refused.pop(version, None)
        self._replace(_Loaded(version, identity, servable))
        return True

    def _replace(self, loaded: _Loaded | None) -> None:
        with self._lock:
            old, self._current = self._current, loaded
            if loaded:
                self._states[loaded.version] = VersionState(_State.AVAILABLE)
            if old is None:
                return
            old.retired = True
            if loaded is None or loaded.version != old.version:
                self._states[old.version] = VersionState(_State.UNLOADING)
            idle = not old.in_use
        if idle:
            self._unload(old)

    def _unload(self, old: _Loaded) -> None:
        old.servable.close()
        with self._lock:
            if self._states[old.version].state == _State.UNLOADING:
                self._states[old.version] = VersionState(_State.END)
        _LOG.info("unloaded %s version %d", self._model_name, old.version)

    def _set_state(
        self, version: int, state: int, code: int = 0, message: str = ""
    ) -> None:
        with self._lock:
            if self._current and self._current.version == version:
                state = _State.AVAILABLE  # its directory was replaced, and what was loaded from it goes on serving
            self._states[version] = VersionState(state, code, message)


def _identity(directory: Path) -> _Identity:
    """Changes when a file of the version is replaced, or goes on being copied."""
    files = [path.stat() for path in directory.rglob("*")]
    return (
        directory.stat().st_ino,
        max((s.st_mtime_ns for s in files), default=0),
        sum(s.st_size for s in files),
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
