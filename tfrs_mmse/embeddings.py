"""The directory of item embeddings: what `beam.embed_items` writes and `serving.export --embeddings` reads.

It holds `embeddings-00000-of-00040.parquet` and so on, and `manifest.json`, which is written last. Every item stands in
one shard, chosen and ordered by a hash of its id. Imports nothing heavy.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

EMBEDDINGS = "embeddings"  # how the names of the shards begin

# Columns of a shard: `item_id` and `title` are strings, `embedding` is a list of D float32.
ITEM_ID, TITLE, EMBEDDING = "item_id", "title", "embedding"


def value_column(attribute: str) -> str:
    """The column with an attribute's raw values: strings ("" is missing) of a category, float32 (NaN is) of a number.

    Shards that an older version wrote have none.
    """
    return f"value/{attribute}"


# In a shard's own metadata: JSON, the raw fields of its first items by name, null where a number is missing. Whoever
# has the model can embed these again and see whether the shard is that model's.
SAMPLE = b"tfrs_mmse.sample"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingsManifest:
    """`manifest.json` beside item embeddings: which model and which features they belong to.

    Attributes:
        features: The model's feature spec.
        vocabulary_hash: That of the vocabularies that the model was trained with.
        model_fingerprint: `restore.fingerprint` of the model.
        dimensions: D.
        num_items: Embeddings in all shards.
        num_shards: Shards.
        accounting: How many rows of the catalogue were read, used, dropped by policy and rejected, by reason.
        sources: The files read.
    """

    features: schema.FeatureSpec
    vocabulary_hash: str
    model_fingerprint: str
    dimensions: int
    num_items: int
    num_shards: int
    accounting: dict[str, dict[str, int]]
    sources: list[str]

    def to_json(self) -> str:
        values = {"format_version": schema.FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the manifest of a directory of embeddings.

        Raises:
            CommandError: there is none, it is not JSON, of another format version, or of something else.
        """
        wanted = "item embeddings written by `python -m beam.embed_items`"
        values: dict[str, Any] = schema.read_versioned_json(
            directory / schema.MANIFEST, wanted=wanted
        )
        del values["format_version"]
        if values.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise CommandError(
                f"expected {wanted} in {directory}, but its {schema.MANIFEST} is of something else"
            )
        features = schema.FeatureSpec.from_dict(values["features"])
        return cls(**{**values, "features": features})

    def shards(self) -> list[str]:
        """The names of all shards, in order."""
        return [
            shard_name(number, self.num_shards) for number in range(self.num_shards)
        ]


def shard_name(number: int, num_shards: int) -> str:
    return f"{EMBEDDINGS}-{number:05d}-of-{num_shards:05d}.parquet"
