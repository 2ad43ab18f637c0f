"""Item vectors on disk: written batch by batch, read as a memory map, so that they need not be in memory as a whole."""

import mmap
from pathlib import Path
from typing import Self

import numpy as np

from tfrs_mmse.cli import CommandError


class VectorFile:
    """A .npy file of [N, D] float32 that grows by batches. N is known before, since its header comes first."""

    def __init__(self, path: Path, num_items: int, dimensions: int) -> None:
        """Begins the file.

        Args:
            path: Of the file; it must not be there.
            num_items: N.
            dimensions: D.
        """
        self._path, self._shape, self._filled = path, (num_items, dimensions), 0
        self._file = path.open("xb")
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, vectors: np.ndarray) -> None:
        """Adds vectors [n, D] float32."""
        self._filled += len(vectors)
        np.ascontiguousarray(vectors, "<f4").tofile(self._file)

    def read(self) -> np.ndarray:
        """[N, D] float32, a memory map that never writes to the file, once all vectors are there.

        Raises:
            CommandError: they are more or fewer than N.
        """
        self._file.close()
        if self._filled != self._shape[0]:
            raise CommandError(
                f"expected {self._shape[0]} items, as the manifest says, got {self._filled}: make the catalogue's "
                "directory anew"
            )
        if not self._filled:  # nothing can be mapped
            return np.zeros(self._shape, np.float32)
        return np.load(self._path, mmap_mode="c")


def forget(embedding: np.ndarray) -> None:
    """Lets go of the pages of a memory map; whoever touches it again reads the file again. Other arrays stay."""
    if isinstance(embedding, np.memmap) and isinstance(embedding.base, mmap.mmap):
        embedding.base.madvise(mmap.MADV_DONTNEED)
