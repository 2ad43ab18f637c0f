"""What a machine has to give, read from files as the kernel writes them."""

import os
import resource
from pathlib import Path

import pytest

from tfrs_mmse.machine import available_disk, available_memory

KB, MB = 1024, 1024**2


def machine(root: Path, *, cgroup: str) -> tuple[Path, Path]:
    """8,000 kB available, 1,000 kB of swap; the process holds 500 kB."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(
        "MemTotal:       16000 kB\nMemAvailable:    8000 kB\nSwapFree:        1000 kB\nHugePages_Total:       0\n"
    )
    (root / "proc" / "self" / "status").write_text(
        "VmSize:\t    2000 kB\nVmRSS:\t     500 kB\nVmData:\t    1200 kB\n"
    )
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    return root / "proc", root / "cgroup"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_limits_the_machine_decides(tmp_path: Path) -> None:
    places = machine(tmp_path, cgroup="0::/\n")
    assert available_memory(*places) == (500 + 8000 + 1000) * KB


def test_a_container_s_limit_decides_and_its_file_cache_is_no_loss(
    tmp_path: Path,
) -> None:
    proc, cgroups = machine(tmp_path, cgroup="0::/\n")
    group(
        cgroups,
        memory__max=f"{4000 * KB}\n",
        memory__current=f"{3000 * KB}\n",
        memory__stat=f"anon 1\ninactive_file {700 * KB}\n",
    )
    assert available_memory(proc, cgroups) == (500 + 4000 - 3000 + 700) * KB


def test_the_narrowest_of_nested_groups_decides(tmp_path: Path) -> None:
    proc, cgroups = machine(tmp_path, cgroup="0::/outer/inner\n")
    for name, limit in (("outer", str(900 * KB)), ("outer/inner", "max")):
        group(
            cgroups / name,
            memory__max=limit,
            memory__current="0",
            memory__stat="inactive_file 0",
        )
    assert available_memory(proc, cgroups) == (500 + 900) * KB


@pytest.mark.parametrize("place", ["memory/docker/a1", "memory"])
def test_the_older_control_groups_are_read_where_a_container_sees_them(
    tmp_path: Path, place: str
) -> None:
    proc, cgroups = machine(
        tmp_path, cgroup="5:cpu:/x\n4:hugetlb,memory:/docker/a1\n0::/\n"
    )
    group(
        cgroups / place,
        memory__limit_in_bytes=str(2000 * KB),
        memory__usage_in_bytes=str(1500 * KB),
        memory__stat=f"total_inactive_file {100 * KB}",
    )
    assert available_memory(proc, cgroups) == (500 + 600) * KB


def test_a_group_that_is_over_its_limit_leaves_what_the_process_has(
    tmp_path: Path,
) -> None:
    proc, cgroups = machine(tmp_path, cgroup="0::/\n")
    group(cgroups, memory__max="1000", memory__current="2000", memory__stat="anon 2000")
    assert available_memory(proc, cgroups) == 500 * KB


def test_the_limit_of_addresses_leaves_less_than_is_unused_and_less_on_more_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = machine(tmp_path, cgroup="0::/\n")
    (places[0] / "meminfo").write_text("MemAvailable: 99000000 kB\nSwapFree: 0 kB\n")
    limit = 40_000_000 * KB
    limit_one(monkeypatch, resource.RLIMIT_AS, limit)
    rooms = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        rooms.append(available_memory(*places))
    assert limit - 1500 * KB > rooms[0] > rooms[1] > limit / 2


def limit_one(monkeypatch: pytest.MonkeyPatch, which: int, limit: int) -> None:
    """One limit of a process; the others are none."""
    none = resource.RLIM_INFINITY
    monkeypatch.setattr(
        resource,
        "getrlimit",
        lambda asked: (limit, limit) if asked == which else (none, none),
    )


def test_the_limit_of_data_leaves_what_is_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = machine(tmp_path, cgroup="0::/\n")
    limit_one(monkeypatch, resource.RLIMIT_DATA, 1500 * KB)
    assert available_memory(*places) == (500 + 1500 - 1200) * KB


def test_this_machine_has_some_memory_and_disk(tmp_path: Path) -> None:
    assert available_memory() > 50 * MB
    assert available_disk(tmp_path / "not" / "there") > 0
