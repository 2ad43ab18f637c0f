"""What this machine, this container and this process still have to give."""

import os
import re
import resource
import shutil
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
# Names of: the limit, the usage, and the field of memory.stat that the kernel gives back when asked to.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
# Addresses that TensorFlow's threads come to reserve, for each core, and never fill: without them it cannot start one,
# and aborts.
_RESERVED = 400_000_000


def available_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """The most memory that this process can come to hold, in bytes: what it holds, and what it may still get.

    The least of these decides: what the machine has free, swap included; the limit of the control group, which is how
    containers are limited; and the limits of the process's own addresses and data (`ulimit -v` and `-d`).

    Args:
        proc: Where the kernel tells of processes.
        cgroups: Where it tells of control groups.
    """
    held = _sizes(proc / "self" / "status")["VmRSS"]
    return held + free_memory(proc, cgroups)


def free_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """What this process may still get of the memory that `available_memory` tells of, in bytes."""
    machine = _sizes(proc / "meminfo")
    process = _sizes(proc / "self" / "status")
    free = [machine["MemAvailable"] + machine["SwapFree"], *_group_rooms(proc, cgroups)]
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY:
        reserved = _RESERVED * len(os.sched_getaffinity(0))
        free.append(addresses - process["VmSize"] - reserved)
    data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if data != resource.RLIM_INFINITY:
        free.append(data - process["VmData"])
    return max(0, min(free))


def available_disk(folder: Path) -> int:
    """Bytes that can be written into a folder, which need not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _sizes(path: Path) -> dict[str, int]:
    """Lines like `VmRSS:   1234 kB`, in bytes by name."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    return {name: int(number) * 1024 for name, number in found}


def _group_rooms(proc: Path, cgroups: Path) -> list[int]:
    """What the process's control group, and each that it is part of, may still get."""
    rooms = []
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, _V2
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", _V1
        else:
            continue
        folder = root / group.lstrip("/")
        # Inside a container the group's path is often that of the host, and the root is the container's own.
        for place in (folder, *folder.parents):
            if (
                place.is_relative_to(root)
                and (room := _room(place, *names)) is not None
            ):
                rooms.append(room)
    return rooms


def _room(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes below a control group's limit; None where it has none."""
    try:
        most = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text().splitlines()
        )
    except OSError:  # the root has no such files, and not every folder is there
        return None
    if most == "max":
        return None
    return int(most) - used + int(stat.get(reclaimable, 0))
