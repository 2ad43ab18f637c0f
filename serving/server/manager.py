"""Which versions of one model are served: loads what its policy wants from the disk, unloads what nobody uses."""

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from serving.server.errors import RequestError
from serving.server.loading import load
from serving.server.model_config import ModelConfig
from serving.server.servable import Servable
from serving.versions import list_versions
from tfrs_mmse.cli import CommandError, first_line, say

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


class Lease:
    """A version that is not unloaded before this is released, once; a `with` block releases it at its end.

    Attributes:
        version: Its number.
        servable: What answers.
    """

    def __init__(self, loaded: _Loaded, release: Callable[[_Loaded], None]) -> None:
        self.version, self.servable = loaded.version, loaded.servable
        self._loaded, self._release = loaded, release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets go of the version."""
        self._release(self._loaded)


class VersionManager:
    """Serves the versions that the model's policy wants and that can be served.

    A new one is loaded and warm before an old one goes, so both are in memory for a while; one that finds no memory
    is refused, and tried again at every look. One that cannot be loaded is refused once, with the reason in its state,
    until its directory is replaced; those before go on serving. When a directory is removed, the newest that is left
    is loaded: that is how to roll back.
    """

    def __init__(
        self, config: ModelConfig, *, load: Callable[[Path], Servable] = load
    ) -> None:
        self._config, self._load = config, load
        self._lock = threading.Lock()
        self._loaded: dict[int, _Loaded] = {}
        self._states: dict[int, VersionState] = {}
        self._refused: dict[int, _Identity] = {}
        self._cannot_look = ""  # why not, when it was last tried
        self._wait_for_memory: set[int] = set()  # of the refused

    @property
    def config(self) -> ModelConfig:
        """What is wanted; another one is obeyed from the next `refresh` on."""
        return self._config

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self._config = config

    @property
    def versions(self) -> list[int]:
        """The versions that are served, newest first: the first answers requests that name none."""
        with self._lock:
            return sorted(self._loaded, reverse=True)

    def refresh(self) -> None:
        """Looks at the disk once. To be called from one thread at a time; requests go on meanwhile."""
        policy = self._config.policy
        served: list[int] = []
        try:
            found = list_versions(self._config.base_path)
            self._cannot_look = ""
        except OSError as e:  # what is served goes on; the next look may be better
            if str(e) != self._cannot_look:
                say(f"cannot look for versions of {self._config.name}: {e}")
            self._cannot_look = str(e)
            return
        for version in policy.candidates(found):
            if len(served) == policy.latest:
                break
            if self._serve(version):
                served.append(version)
        if served:  # or else what is served goes on
            for version in set(self.versions) - set(served):
                self._retire(version)

    def states(self) -> dict[int, VersionState]:
        """The state of every version met so far, by number."""
        with self._lock:
            return dict(sorted(self._states.items()))

    def acquire(self, version: int | None = None, *, label: str | None = None) -> Lease:
        """The version to answer with.

        Args:
            version: A version number, or None for the newest that is served.
            label: Instead of a number.

        Raises:
            RequestError: NOT_FOUND: it is not loaded; INVALID_ARGUMENT: there is no such label.
        """
        if label is not None:
            version = self._config.labels.get(label)
            if version is None:
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {label}",
                )
        with self._lock:
            newest = max(self._loaded, default=None)
            loaded = self._loaded.get(newest if version is None else version)  # type: ignore[arg-type]
            if loaded is None:
                name = self._config.name
                wanted = (
                    f"Latest({name})"
                    if version is None
                    else f"Specific({name}, {version})"
                )
                raise RequestError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Servable not found for request: {wanted}",
                )
            loaded.in_use += 1
        return Lease(loaded, self._release)

    def close(self) -> None:
        """Unloads what is served, each version when its last request is answered."""
        for version in self.versions:
            self._retire(version)

    def _serve(self, version: int) -> bool:
        """Whether a version is served, after an attempt to load it if it is new."""
        directory = self._config.base_path / str(version)
        with self._lock:
            loaded = self._loaded.get(version)
        try:
            identity = _identity(directory)
        except (
            OSError
        ):  # removed since it was listed, or the file system has a bad moment
            return loaded is not None and not _is_gone(directory)
        if loaded and loaded.identity == identity:
            return True
        is_new = self._refused.get(version) != identity
        if is_new or version in self._wait_for_memory:
            return self._try(version, directory, identity) or loaded is not None
        return loaded is not None

    def _try(self, version: int, directory: Path, identity: _Identity) -> bool:
        self._set_state(version, _State.LOADING)
        try:
            servable = self._load(directory)
        # Whatever is wrong with a new version, the old one must go on serving.
        except Exception as e:
            self._refuse(version, directory, identity, e)
            return False
        self._refused.pop(version, None)
        self._wait_for_memory.discard(version)
        with self._lock:
            old = self._loaded.get(version)  # from a directory that was replaced
            self._loaded[version] = _Loaded(version, identity, servable)
            self._states[version] = VersionState(_State.AVAILABLE)
        if old:
            self._let_go(old)
        return True

    def _refuse(
        self, version: int, directory: Path, identity: _Identity, error: Exception
    ) -> None:
        expected = isinstance(error, CommandError | RequestError | OSError)
        _LOG.log(
            logging.DEBUG if expected else logging.ERROR,
            "cannot load %s",
            directory,
            exc_info=error,
        )
        code = (
            error.code
            if isinstance(error, RequestError)
            else grpc.StatusCode.FAILED_PRECONDITION
        )
        self._wait_for_memory.discard(version)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._wait_for_memory.add(version)
        message = (
            str(error)
            if expected
            else f"{directory} cannot be loaded ({type(error).__name__}: {first_line(error)})"
        )
        self._set_state(version, _State.END, code.value[0], message)
        if self._refused.get(version) != identity:  # or else it was said
            say(f"refused {self._config.name} version {version}: {message}")
        self._refused[version] = identity

    def _retire(self, version: int) -> None:
        with self._lock:
            old = self._loaded.pop(version)
            self._states[version] = VersionState(_State.UNLOADING)
        self._let_go(old)

    def _let_go(self, old: _Loaded) -> None:
        with self._lock:
            old.retired = True
            idle = not old.in_use
        if idle:
            self._unload(old)

    def _release(self, loaded: _Loaded) -> None:
        with self._lock:
            loaded.in_use -= 1
            last = loaded.retired and not loaded.in_use
        if last:
            # Not by the thread that answers requests; the process waits for it before it ends.
            threading.Thread(target=self._unload, args=[loaded], daemon=False).start()

    def _unload(self, old: _Loaded) -> None:
        old.servable.close()
        with self._lock:
            if self._states[old.version].state == _State.UNLOADING:
                self._states[old.version] = VersionState(_State.END)
        _LOG.info("unloaded %s version %d", self._config.name, old.version)

    def _set_state(
        self, version: int, state: int, code: int = 0, message: str = ""
    ) -> None:
        with self._lock:
            if version in self._loaded:
                state = _State.AVAILABLE  # its directory was replaced, and what was loaded from it goes on serving
            self._states[version] = VersionState(state, code, message)


def _is_gone(directory: Path) -> bool:
    try:
        directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _identity(directory: Path) -> _Identity:
    """Changes when a file of the version is replaced, or goes on being copied."""
    files = [path.stat() for path in directory.rglob("*")]
    return (
        directory.stat().st_ino,
        max((s.st_mtime_ns for s in files), default=0),
        sum(s.st_size for s in files),
    )
