"""The item tower as Beam's `RunInference` wants a model: loaded once in each worker, asked with whole tables.

The one module here that knows the library's models.
"""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from beam import progress
from beam.featurize import item_fields
from tfrs_mmse import restore, schema
from tfrs_mmse.cli import CommandError

_BATCH = 4096

# RunInference says at every start that memory cannot be measured, where PyTorch is not installed: nobody asked.
logging.getLogger().addFilter(
    lambda record: "Resource module is not available" not in record.getMessage()
)


class ModelFacts(NamedTuple):
    """What there is to know of a trained model before its workers start.

    Attributes:
        features: Its feature spec.
        vocabulary_hash: That of its vocabularies.
        preprocessing: The config that its examples were made with.
        fingerprint: `restore.fingerprint`.
        dimensions: Of an embedding.
    """

    features: schema.FeatureSpec
    vocabulary_hash: str
    preprocessing: dict[str, Any]
    fingerprint: str
    dimensions: int


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """The items of one shard, in its order; as long as it has items, which is what `RunInference` counts.

    Attributes:
        number: The shard.
        items: A table of `ItemLayout.table_schema`.
    """

    number: int
    items: pl.DataFrame

    def __len__(self) -> int:
        return self.items.height


class ItemTower:
    """A restored item tower that takes raw fields."""

    def __init__(self, model_dir: Path) -> None:
        """Restores the newest checkpoint.

        Raises:
            CommandError: as `restore.load_towers`.
        """
        towers = restore.load_towers(model_dir)
        self._spec = towers.featurizer.spec
        self._towers = towers
        self._embed = tf.function(
            lambda fields: towers.model.item_embedding(towers.featurizer.items(fields)),
            input_signature=[towers.featurizer.item_signature()],
            autograph=False,
        )

    def facts(self) -> ModelFacts:
        """What there is to know of it."""
        config, vocabulary_hash, preprocessing, _, model = self._towers
        return ModelFacts(
            self._spec,
            vocabulary_hash,
            preprocessing,
            restore.fingerprint(config, model),
            self._embed.get_concrete_function().output_shapes[1],
        )

    def embed(self, items: pl.DataFrame) -> np.ndarray:
        """[N, D] float32 for a table of `ItemLayout.table_schema`."""
        batches = [
            self._embed(item_fields(items[start : start + _BATCH], self._spec)).numpy()
            for start in range(0, max(items.height, 1), _BATCH)
        ]
        return np.concatenate(batches)


class ItemTowerHandler(ModelHandler[ItemTable, PredictionResult, ItemTower]):
    """Embeds tables of items: an element is a whole `ItemTable`, its result [N, D] float32."""

    def __init__(self, model_dir: Path, fingerprint: str) -> None:
        """Args:
        model_dir: Directory that `python -m tfrs_mmse.train` wrote, where every worker can read it.
        fingerprint: Of the model that is meant.
        """
        super().__init__()
        self._model_dir, self._fingerprint = model_dir, fingerprint

    def load_model(self) -> ItemTower:
        """Restores the tower.

        Raises:
            CommandError: the directory holds another model than the one that is meant.
        """
        tower = ItemTower(self._model_dir)
        if tower.facts().fingerprint != self._fingerprint:
            raise CommandError(
                f"the model in {self._model_dir} changed while it was used; start again when its training is over"
            )
        return tower

    def run_inference(
        self,
        batch: Sequence[ItemTable],
        model: ItemTower,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        """Embeds each table.

        Raises:
            CommandError: an embedding is not finite.
        """
        for table in batch:
            embedding = model.embed(table.items)
            if not np.isfinite(embedding).all():
                raise CommandError(
                    f"the model in {self._model_dir} gives item embeddings that are not finite: its training diverged"
                )
            progress.report("embedded", len(table))
            yield PredictionResult(table, embedding)

    def should_skip_batching(self) -> bool:
        """A table is a batch already."""
        return True

    def get_num_bytes(self, batch: Sequence[ItemTable]) -> int:
        """Of the tables in memory: the default would pickle them to know."""
        return int(sum(table.items.estimated_size() for table in batch))
