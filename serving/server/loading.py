"""Loading a version, if there is memory for one more."""

from pathlib import Path

import grpc

from serving.server.errors import RequestError
from serving.server.saved_model import memory_needed, read_manifest
from serving.server.servable import Servable
from tfrs_mmse import machine

_RUNTIME = 100_000_000  # bytes of a version's graph and of its first requests


def load(directory: Path) -> Servable:
    """Loads a version that fits beside what is loaded: better the old one alone than none.

    Raises:
        RequestError: RESOURCE_EXHAUSTED: there is too little memory; others: a warm-up request failed.
        CommandError: it is not a version, not whole, or cannot be used here.
    """
    manifest = read_manifest(directory)  # refuses what is not whole
    needed = memory_needed(directory, manifest) + _RUNTIME
    free = machine.free_memory()
    if needed > free:
        raise RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{directory} needs about {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free: it is loaded "
            "once there is enough, and until then what is served stays",
        )
    return Servable(directory)
