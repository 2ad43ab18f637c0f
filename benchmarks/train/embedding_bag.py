"""The two towers in PyTorch: `EmbeddingBag` with sparse gradients, in-batch softmax, sparse Adagrad.

    python -m benchmarks.train.embedding_bag --pairs DIR --output DIR [--source memory]

As a good PyTorch program would be: token ids lie in Parquet and reach the bags as one flat tensor with offsets, without
padding and without a Python object for each row; a worker process reads ahead.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.train import layout
from benchmarks.train.layout import MEMORY, EpochClock, Settings, Trained
from tfrs_mmse import cli, schema

Batch = dict[str, torch.Tensor]  # ids by column; of lists flat, with `COLUMN/offset`
_GROUPS = 16  # row groups that are shuffled together


class TwoTower(nn.Module):
    """Both towers: the mean of each text grain's tokens, then one linear map."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.tokens = nn.ModuleDict(
            {
                name: nn.EmbeddingBag(
                    size, settings.embedding_dim, mode="mean", sparse=True
                )
                for name, size in settings.text_grains.items()
            }
        )
        self.attributes = nn.ModuleDict(
            {
                name: nn.Embedding(size, settings.attribute_dim, sparse=True)
                for name, size in settings.attribute_grains.items()
            }
        )
        for table in (*self.tokens.values(), *self.attributes.values()):
            nn.init.normal_(table.weight, std=settings.initial_scale)
        self.query_map = nn.Linear(settings.text_dim, settings.fused_dim, bias=False)
        self.item_map = nn.Linear(settings.fused_dim, settings.fused_dim, bias=False)
        for linear in (self.query_map, self.item_map):
            nn.init.xavier_uniform_(linear.weight)

    def query(self, batch: Batch) -> torch.Tensor:
        """[B, D] unit vectors."""
        pooled = self._pooled(batch, schema.query_feature)
        return functional.normalize(self.query_map(pooled), dim=1)

    def item(self, batch: Batch) -> torch.Tensor:
        """[B, D] unit vectors."""
        attributes = [
            table(ids := batch[schema.item_feature(name)]) * (ids > 0)[:, None]
            for name, table in self.attributes.items()
        ]
        raw = torch.cat([self._pooled(batch, schema.item_feature), *attributes], dim=1)
        return functional.normalize(self.item_map(raw), dim=1)

    def _pooled(self, batch: Batch, feature: Callable[[str], str]) -> torch.Tensor:
        return torch.cat(
            [
                bag(batch[feature(name)], batch[f"{feature(name)}/offset"])
                for name, bag in self.tokens.items()
            ],
            dim=1,
        )


class Pairs(IterableDataset):
    """One pass over the pairs, in batches; another order of the row groups and their rows in each pass."""

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__()
        self._path = path
        self._settings = settings
        self.epoch = 0

    def __iter__(self) -> Iterator[Batch]:
        lot = np.random.default_rng([self._settings.seed, self.epoch])
        size = self._settings.batch_size
        with pq.ParquetFile(self._path) as file:
            groups = lot.permutation(file.num_row_groups)
            rest: pa.Table | None = None
            for start in range(0, len(groups), _GROUPS):
                table = file.read_row_groups(groups[start : start + _GROUPS].tolist())
                table = table.take(lot.permutation(len(table)))
                if rest is not None:
                    table = pa.concat_tables([rest, table])
                whole = len(table) // size * size
                for row in range(0, whole, size):
                    yield as_batch(table.slice(row, size))
                rest = table.slice(whole)
            if rest is not None and len(rest):
                yield as_batch(rest)


def as_batch(table: pa.Table) -> Batch:
    """Arrow's columns as tensors: of a list column flat values and the offset of each row."""
    batch: Batch = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = column.combine_chunks()
        if pa.types.is_list(array.type):
            offsets = array.offsets.to_numpy()
            batch[name] = torch.from_numpy(array.flatten().to_numpy().copy())
            batch[f"{name}/offset"] = torch.from_numpy(offsets[:-1] - offsets[0])
        elif pa.types.is_integer(array.type):
            batch[name] = torch.from_numpy(array.to_numpy().copy())
    return batch


def loss(
    query: torch.Tensor, item: torch.Tensor, number: torch.Tensor, temperature: float
) -> torch.Tensor:
    """In-batch softmax; copies of a pair's own item are no negatives."""
    logits = query @ item.T / temperature
    copies = (number[:, None] == number[None, :]).fill_diagonal_(False)
    logits = logits.masked_fill(copies, torch.finfo(logits.dtype).min)
    return functional.cross_entropy(logits, torch.arange(len(query)))


def train(folder: Path, settings: Settings, source: str) -> Trained:
    torch.manual_seed(settings.seed)
    model = TwoTower(settings)
    optimizer = torch.optim.Adagrad(
        model.parameters(),
        lr=settings.learning_rate,
        initial_accumulator_value=0.1,  # Keras's
        eps=1e-7,
    )
    pairs = Pairs(folder / layout.PAIRS, settings)
    in_memory = list(pairs) if source == MEMORY else None
    clock = EpochClock()
    for epoch in range(settings.epochs):
        pairs.epoch = epoch
        batches = in_memory or DataLoader(
            pairs, batch_size=None, num_workers=1, prefetch_factor=4
        )
        for batch in batches:
            optimizer.zero_grad()
            loss(
                model.query(batch),
                model.item(batch),
                batch[layout.ITEM],
                settings.temperature,
            ).backward()
            optimizer.step()
        clock.epoch_ends()
    return Trained(
        clock.seconds(),
        _vectors(model.query, folder / layout.QUERIES),
        _vectors(model.item, folder / layout.ITEMS),
    )


@torch.no_grad()
def _vectors(tower: Callable[[Batch], torch.Tensor], path: Path) -> np.ndarray:
    table = pq.read_table(path)
    return np.concatenate(
        [
            tower(as_batch(table.slice(row, 4096))).numpy()
            for row in range(0, len(table), 4096)
        ]
    )


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Trains and writes the vectors."""
    layout.run("embedding_bag", __doc__, train, argv)


if __name__ == "__main__":
    sys.exit(main())
