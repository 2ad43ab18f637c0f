"""What a benchmark ran on: its figures mean nothing without it."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "tensorflow", "tensorflow-recommenders")


def describe(libraries: Sequence[str] = LIBRARIES) -> dict[str, Any]:
    """Describes this machine and the libraries in use.

    Args:
        libraries: Distributions, as `pip` names them, whose versions matter to the benchmark.

    Returns:
        `cpu`, `cores` that this process may use, `memory_gb` (10**9 bytes), `load` (processes that wanted to run during
        the last minute: far above what the benchmark itself starts, somebody else was working too), `python`,
        `libraries` by name.
    """
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1
        ),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in libraries},
    }


def peak_memory() -> int:
    """The most memory that this process has ever held, in bytes.

    `resource.getrusage` would not do: a child process starts with its parent's peak there.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise OSError("/proc/self/status has no VmHWM, which Linux writes there")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
