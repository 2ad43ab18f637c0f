"""The contract of the three programs: levels, names of files, features and signatures. Imports nothing heavy.

`beam.preprocess` writes what is named here, `tfrs_mmse` reads it and writes a model directory, `serving` reads that.
Other people's programs depend on these names.
"""

import dataclasses
import enum
import hashlib
import json
from pathlib import Path
from typing import Any, Self

from tfrs_mmse.cli import CommandError

FORMAT_VERSION = 2  # of the examples and of the model directory; raised whenever a reader of the old one would be wrong


class Level(enum.IntEnum):
    """How far an item got with a query: the deepest stage that it reached. Higher is better."""

    RANDOM = 0  # drawn from the catalogue at training time, never in the logs
    UNCLICKED = 1  # shown and probably seen, not clicked
    CLICKED = 2
    ORDERED = 3


# Files in the examples' directory. SPLITS name the shards: train-00000-of-00008.tfrecord.gz
MANIFEST = "manifest.json"
VOCABULARY_DIR = "vocab"
STATS, STATS_PAGE = "stats.json", "stats.html"
ITEMS = "items"
TRAIN, TEST = "train", "test"
SPLITS = (TRAIN, TEST)

# Files in the model's directory.
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
EVALUATION = "evaluation"

# Features of a `tf.train.Example`. A request record holds the query once and its items as parallel lists; an item
# record (stream ITEMS) is the same thing without a query and with exactly one item, plus its text for people and BM25.
QUERY = "query"  # bytes [1]: the folded query, the unit of evaluation
QUERY_POSITIVES = "query/positive_item_id"  # bytes [P]: every item that the query clicked or ordered in the train split
ITEM_ID = "item_id"  # bytes [M]
LEVEL = "item/level"  # int64 [M]
POSITION = "item/position"  # int64 [M]: 0-based rank on the page, -1 where the log does not say
LOG_PROBABILITY = "item/log_probability"  # float32 [M]: log of the share of train slots that hold the item, or -inf
TITLE = "item/title"  # bytes [1], items only: as the catalogue has it
TEXT = "item/text"  # bytes [1], items only: every text field that is filled, raw, joined by newlines


def query_feature(grain: str) -> str:
    """int64 [T]: the query's token ids of one text grain."""
    return f"query/{grain}"


def item_feature(grain: str) -> str:
    """int64: token ids of all M items, field by field, one after the other (text), or one id per item (attribute)."""
    return f"item/{grain}"


def item_lengths(grain: str) -> str:
    """int64 [M * F]: how many of `item_feature(grain)`'s ids belong to each text field of each item (text only)."""
    return f"item/{grain}/length"


def item_value(attribute: str) -> str:
    """Items only: the attribute's value as the catalogue has it, bytes [1] ("" is missing) or float32 [1] (NaN is)."""
    return f"item/value/{attribute}"


# Signatures of the SavedModel and their tensors.
SERVING_DEFAULT, SEARCH_EXCLUDING = "serving_default", "search_excluding"
SEARCH_FILTERED = "search_filtered"
EMBED_QUERY, EMBED_ITEM = "embed_query", "embed_item"
SCORE, EXCLUDE, EMBEDDING = "score", "exclude", "embedding"  # beside QUERY and ITEM_ID
K, FILTER, NUM_MATCHING = "k", "filter", "num_matching"  # of SEARCH_FILTERED

MAX_QUERY_BYTES = 1024  # a longer query is a mistake or an attack; refused alike by preprocessing and serving

TEXT_GRAINS = ("word", "bigram", "character")


class GrainKind(enum.StrEnum):
    """Where a grain's ids come from."""

    TEXT = "text"  # query text and item text, through one vocabulary; id 0 is every unknown token
    CATEGORICAL = (
        "categorical"  # an item's folded attribute; id 0 is a missing or rare value
    )
    NUMBER = "number"  # an item's attribute by quantile; id 0 is a missing value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grain:
    """One granularity at which queries and items are compared.

    Attributes:
        name: `word`, `bigram`, `character`, or the attribute's column.
        kind: Where its ids come from.
        size: Number of distinct ids, id 0 included.
    """

    name: str
    kind: GrainKind
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What the records hold; written by preprocessing, kept beside the model, checked wherever the two meet.

    Attributes:
        text_fields: Item columns that are read as text, in this order: `title`, categorical columns, text columns.
        grains: The text grains, then one grain for each attribute column.
        max_query_words: Words of a query that are used; the rest is cut.
        max_field_words: Words of each text field of an item that are used; the rest is cut.
    """

    text_fields: tuple[str, ...]
    grains: tuple[Grain, ...]
    max_query_words: int
    max_field_words: int

    @property
    def text_grains(self) -> tuple[Grain, ...]:
        return tuple(g for g in self.grains if g.kind is GrainKind.TEXT)

    @property
    def attribute_grains(self) -> tuple[Grain, ...]:
        return tuple(g for g in self.grains if g.kind is not GrainKind.TEXT)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        grains = tuple(
            Grain(name=g["name"], kind=GrainKind(g["kind"]), size=g["size"])
            for g in values["grains"]
        )
        return cls(
            text_fields=tuple(values["text_fields"]),
            grains=grains,
            max_query_words=values["max_query_words"],
            max_field_words=values["max_field_words"],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json` beside the examples: what they are, where they came from, and how every record was used.

    Attributes:
        features: The feature spec.
        num_items: Items in the catalogue stream.
        splits: For each split the number of `requests`, distinct `queries`, and items by level name.
        accounting: For each source, how many records were read, used, dropped by policy and rejected, by reason.
        sources: The files read.
        config: The preprocessing config, resolved.
        vocabulary_hash: SHA-256 over the vocabulary files; models and examples that differ in it do not fit together.
    """

    features: FeatureSpec
    num_items: int
    splits: dict[str, dict[str, int]]
    accounting: dict[str, dict[str, int]]
    sources: dict[str, list[str]]
    config: dict[str, Any]
    vocabulary_hash: str

    def to_json(self) -> str:
        values = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the manifest of an examples' directory.

        Raises:
            CommandError: there is none, it is not JSON, of another format version, or something is missing in it.
        """
        values = read_versioned_json(
            directory / MANIFEST,
            wanted="examples written by `python -m beam.preprocess`",
        )
        del values["format_version"]
        try:
            features = FeatureSpec.from_dict(values["features"])
            return cls(**{**values, "features": features})
        except (KeyError, TypeError, ValueError) as e:
            raise CommandError(
                f"{directory / MANIFEST} is not what `python -m beam.preprocess` writes ({e}): write the examples anew"
            ) from None


def read_versioned_json(path: Path, *, wanted: str) -> dict[str, Any]:
    """Reads a JSON file with a `format_version`, or says in one sentence why it cannot be used.

    Args:
        path: The file.
        wanted: What the directory should have been, for the message.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CommandError(
            f"expected {wanted} in {path.parent}, but there is no {path.name}"
        ) from None
    except ValueError as e:
        raise CommandError(f"{path} is not valid JSON ({e}); write it anew") from None
    found = values.get("format_version") if isinstance(values, dict) else None
    if found != FORMAT_VERSION:
        raise CommandError(
            f"{path} is of format version {found}, this program reads version {FORMAT_VERSION}: "
            "write it anew with this version of tfrs-mmse"
        )
    return values


def vocabulary_hash(directory: Path, grains: tuple[Grain, ...]) -> str:
    """SHA-256 over the vocabulary files of `grains` in an examples' or model's directory, in the grains' order."""
    digest = hashlib.sha256()
    for grain in grains:
        digest.update(f"{grain.name}\0{grain.kind}\0".encode())
        digest.update((directory / VOCABULARY_DIR / f"{grain.name}.txt").read_bytes())
    return digest.hexdigest()
