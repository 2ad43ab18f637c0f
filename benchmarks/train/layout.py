"""What the systems are given and give back: names of files and columns, and the settings that all share.

Imports neither TensorFlow nor PyTorch, which need not meet in one process.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tfrs_mmse import cli

SETTINGS = "settings.json"
PAIRS, ITEMS, QUERIES = "pairs.parquet", "items.parquet", "queries.parquet"
TEXT_PAIRS = "pairs-*.tfrecord"
ITEM, TEXT = "item", "text"  # columns: the item's row in ITEMS; all text of the item
QUERY_VECTORS, ITEM_VECTORS = "queries.npy", "items.npy"
FILES, MEMORY = SOURCES = ("files", "memory")


class Settings(NamedTuple):
    """What is equal in all systems.

    Attributes:
        examples: Directory that the pairs were made of.
        text_grains: Rows of the table of each text grain, by name.
        attribute_grains: Rows of the table of each attribute grain, by name.
        embedding_dim: Dimensions of each text grain.
        attribute_dim: Dimensions of each attribute grain.
        batch_size: Pairs of a step.
        epochs: Passes over the pairs.
        learning_rate: Of Adagrad.
        temperature: Of the softmax.
        initial_scale: Standard deviation of the initial embeddings.
        seed: Of initial values and order.
        num_pairs: Pairs in all.
        config: This library's config, from which the rest is taken.
    """

    examples: str
    text_grains: dict[str, int]
    attribute_grains: dict[str, int]
    embedding_dim: int
    attribute_dim: int
    batch_size: int
    epochs: int
    learning_rate: float
    temperature: float
    initial_scale: float
    seed: int
    num_pairs: int
    config: dict[str, Any]

    @property
    def text_dim(self) -> int:
        """Of all text grains side by side."""
        return self.embedding_dim * len(self.text_grains)

    @property
    def fused_dim(self) -> int:
        """Of the vectors that the towers return."""
        return self.text_dim + self.attribute_dim * len(self.attribute_grains)

    def write(self, folder: Path) -> None:
        (folder / SETTINGS).write_text(json.dumps(self._asdict(), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(**json.loads((folder / SETTINGS).read_text()))


class EpochClock:
    """When each epoch ended."""

    def __init__(self) -> None:
        self._moments = [time.perf_counter()]

    def epoch_ends(self) -> None:
        self._moments.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """What each epoch took. The first one traces, compiles and warms up."""
        return np.diff(self._moments).round(3).tolist()


class Trained(NamedTuple):
    """What a system gives back.

    Attributes:
        seconds: Of each epoch.
        queries: [Q, D] float32, the vectors of QUERIES.
        items: [N, D] float32, the vectors of ITEMS.
    """

    seconds: list[float]
    queries: np.ndarray
    items: np.ndarray


def run(
    name: str,
    document: str | None,
    train: Callable[[Path, Settings, str], Trained],
    argv: Sequence[str] | None,
) -> None:
    """The command of a system: trains on the files of a folder, writes the vectors, prints the seconds."""
    parser = cli.argument_parser(f"benchmarks.train.{name}", document)
    parser.add_argument("--pairs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--source", choices=SOURCES, default=FILES)
    parser.add_argument("--epochs", type=cli.positive_int, help="as in settings.json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    settings = Settings.read(args.pairs)
    if args.epochs:
        settings = settings._replace(epochs=args.epochs)
    trained = train(args.pairs, settings, args.source)
    args.output.mkdir(parents=True, exist_ok=True)
    np.save(args.output / QUERY_VECTORS, trained.queries)
    np.save(args.output / ITEM_VECTORS, trained.items)
    cli.print_result({"seconds": trained.seconds})
