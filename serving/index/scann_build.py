"""Builds ScaNN's index in a process of its own. Used by the export.

    python -m serving.index.scann_build --embeddings FILE --settings JSON --output DIR

`--embeddings` is a .npy file of [N, D] float32. The tree and the codebook are trained on a sample, and every item is
encoded with them. ScaNN holds the vectors once meanwhile: asked to do both in one step, it would hold them three times.
They are not written again; that the best candidates are to be scored with them is noted in the configuration.
What it held is free again when the process ends, and what it logs nobody needs to read unless it fails. TensorFlow is
not loaded.
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tfrs_mmse
from tfrs_mmse import cli
from tfrs_mmse.cli import CommandError

MIN_ITEMS = 16
"""Fewer give no codebook: it has as many entries for each block of dimensions."""

_ROOT = Path(tfrs_mmse.__file__).resolve().parent.parent
# Vectors that the codebook, and the tree for each of its leaves, are trained on: so many centres need no more.
_CODEBOOK_SAMPLE = 20_000
_SAMPLE_PER_LEAF = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """How ScaNN partitions and scores.

    Attributes:
        num_leaves: Partitions of the catalogue; 0 looks at every item.
        leaves_to_search: Partitions looked at for a query. More: better recall, more time. Matters at query time only.
        num_reorder: Candidates scored anew with full precision. More: better recall, more time. Matters at query time
            only.
        dimensions_per_block: Dimensions that share one quantisation code. More: less memory and time, worse recall.
        anisotropic_threshold: Cosine above which the error along the vector counts more in the quantisation.
    """

    num_leaves: int
    leaves_to_search: int
    num_reorder: int
    dimensions_per_block: int = 2
    anisotropic_threshold: float = 0.2


class ScannParts(NamedTuple):
    """A built index, as ScaNN's TensorFlow operations take it; a scalar where there is no such part.

    Attributes:
        scann_config: [1] serialised proto.
        serialized_partitioner: [1] serialised proto.
        datapoint_to_token: [N] int32, the leaf of each item.
        ah_codebook: [1] serialised proto.
        hashed_dataset: [N, blocks] uint8, the codes of each item.
    """

    scann_config: np.ndarray
    serialized_partitioner: np.ndarray
    datapoint_to_token: np.ndarray
    ah_codebook: np.ndarray
    hashed_dataset: np.ndarray


def build(embedding: np.ndarray, settings: ScannSettings) -> ScannParts:
    """Builds an index in a process of its own.

    Args:
        embedding: [N, D] float32, N >= MIN_ITEMS; of a memory map, the .npy file is read.
        settings: See there.

    Raises:
        CommandError: ScaNN failed.
    """
    mapped = isinstance(embedding, np.memmap) and embedding.filename
    with tempfile.TemporaryDirectory(
        dir=Path(mapped).parent if mapped else None
    ) as scratch:
        if mapped:
            file = Path(mapped)
        else:
            file = Path(scratch, "embeddings.npy")
            np.save(file, np.ascontiguousarray(embedding, np.float32))
        flags = {
            "--embeddings": str(file),
            "--settings": json.dumps(dataclasses.asdict(settings)),
            "--output": scratch,
        }
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "serving.index.scann_build"),
                *(word for flag in flags.items() for word in flag),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            sys.stderr.write(finished.stderr)
            raise CommandError(
                f"ScaNN cannot build an index of {len(embedding)} items with {settings} (exit status "
                f"{finished.returncode}, its log is above): give it more memory, or use --index exact"
            )
        return _read(Path(scratch))


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, builds, writes."""
    parser = cli.argument_parser("serving.index.scann_build", __doc__)
    parser.add_argument(
        "--embeddings", type=Path, required=True, help=".npy file of [N, D] float32"
    )
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="ScannSettings as JSON"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="existing directory to write to"
    )
    args = parser.parse_args(argv)
    settings = ScannSettings(**args.settings)

    # ScaNN imports TensorFlow if it is there, for operations that are not used here: seconds, and 400 MB.
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
    from scann.proto import scann_pb2
    from scann.scann_ops.py import scann_ops_pybind

    with tempfile.TemporaryDirectory() as scratch:
        _train(np.load(args.embeddings, mmap_mode="r"), settings).serialize(scratch)
        # Loaded without codes and leaves, ScaNN computes them for the dataset that is named here.
        assets = {
            "AH_CENTERS": Path(scratch, "ah_codebook.pb"),
            "PARTITIONER": Path(scratch, "serialized_partitioner.pb"),
            "DATASET_NPY": args.embeddings.resolve(),
        }
        lines = [
            f'assets {{ asset_type: {kind} asset_path: "{path}" }}\n'
            for kind, path in assets.items()
            if path.exists()
        ]
        Path(scratch, "scann_assets.pbtxt").write_text("".join(lines), encoding="utf-8")
        searcher = scann_ops_pybind.load_searcher(scratch)
    searcher.serialize(str(args.output))
    file = args.output / "scann_config.pb"
    config = scann_pb2.ScannConfig.FromString(file.read_bytes())
    config.exact_reordering.approx_num_neighbors = settings.num_reorder
    file.write_bytes(config.SerializeToString())


def _train(embedding: np.ndarray, settings: ScannSettings) -> Any:
    """A searcher over a sample of the vectors, whose tree and codebook will be used for all."""
    from scann.scann_ops.py import scann_ops_pybind

    num = max(_CODEBOOK_SAMPLE, _SAMPLE_PER_LEAF * settings.num_leaves)
    rows = np.random.default_rng(0).permutation(len(embedding))[:num]
    sample = np.array(embedding[np.sort(rows)])
    builder = scann_ops_pybind.builder(sample, 1, "dot_product")
    if settings.num_leaves:
        builder = builder.tree(
            num_leaves=settings.num_leaves,
            num_leaves_to_search=settings.leaves_to_search,
            training_sample_size=len(sample),
        )
    return builder.score_ah(
        settings.dimensions_per_block,
        anisotropic_quantization_threshold=settings.anisotropic_threshold,
        training_sample_size=len(sample),
    ).build()


def num_leaves(num_items: int) -> int:
    """Leaves of a tree over so many items: their square root."""
    return round(math.sqrt(num_items))


def _read(directory: Path) -> ScannParts:
    def proto(name: str) -> np.ndarray:
        file = directory / f"{name}.pb"
        return np.array([file.read_bytes()] if file.exists() else b"", object)

    def array(name: str, dtype: type) -> np.ndarray:
        file = directory / f"{name}.npy"
        return np.load(file) if file.exists() else np.zeros([], dtype)

    return ScannParts(
        proto("scann_config"),
        proto("serialized_partitioner"),
        array("datapoint_to_token", np.int32),
        proto("ah_codebook"),
        array("hashed_dataset", np.uint8),
    )


if __name__ == "__main__":
    sys.exit(main())
