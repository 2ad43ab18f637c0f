"""The versions of a model on disk: numeric directories under a base path, each published whole or not at all."""

import errno
import os
from pathlib import Path


def list_versions(base_path: Path) -> list[int]:
    """Version numbers under `base_path`, newest first; names that are not numbers are none (`.tmp-...` for one)."""
    try:
        entries = list(os.scandir(base_path))
    except FileNotFoundError:
        return []
    return sorted(
        (int(e.name) for e in entries if _is_number(e.name) and e.is_dir()),
        reverse=True,
    )


def publish(directory: Path, base_path: Path) -> Path:
    """Makes a finished directory the next version, in one step that cannot be seen half done.

    Args:
        directory: The whole version, on the file system of `base_path`; it is moved.
        base_path: Where the versions are.

    Returns:
        The published directory.
    """
    _flush(directory)
    number = max(list_versions(base_path), default=0)
    while True:
        number += 1
        try:
            directory.rename(base_path / str(number))
        except OSError as e:
            if e.errno not in (
                errno.ENOTEMPTY,
                errno.EEXIST,
            ):  # another export has just taken the number
                raise
        else:
            break
    _flush_one(base_path)
    return base_path / str(number)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name


def _flush(directory: Path) -> None:
    for folder, _, files in os.walk(directory):
        for name in files:
            _flush_one(Path(folder) / name)
        _flush_one(Path(folder))


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
