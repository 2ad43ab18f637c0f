"""Vectors on disk: the same as were written, all of them, and readable again after they were forgotten."""

from pathlib import Path

import numpy as np
import pytest

from serving.export.vector_file import VectorFile, forget
from tfrs_mmse.cli import CommandError


def test_batches_come_back_as_one_memory_map(tmp_path: Path) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    with VectorFile(tmp_path / "v.npy", 4, 3) as file:
        file.append(vectors[:1])
        file.append(vectors[1:])
        read = file.read()
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, vectors)
    forget(read)
    np.testing.assert_array_equal(read, vectors)
    forget(vectors)  # nothing to let go of
    assert vectors[3, 2] == 11


@pytest.mark.parametrize("num_rows", [1, 3])
def test_another_number_than_announced_is_refused(
    num_rows: int, tmp_path: Path
) -> None:
    file = VectorFile(tmp_path / "v.npy", 2, 3)
    file.append(np.zeros((num_rows, 3), np.float32))
    with pytest.raises(CommandError, match=f"expected 2 items.*got {num_rows}"):
        file.read()


def test_no_vectors_are_an_empty_array(tmp_path: Path) -> None:
    assert VectorFile(tmp_path / "v.npy", 0, 3).read().shape == (0, 3)
