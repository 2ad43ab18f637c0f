"""How much memory and disk a training will need, estimated from its config and manifest before it starts."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from tfrs_mmse import machine, schema
from tfrs_mmse.cli import CommandError, first_line, say
from tfrs_mmse.config import TrainConfig

_FLOAT = 4  # bytes
# Fitted to the peaks of real runs; docs/architecture.md says how well.
_PROCESS = 870_000_000  # bytes of the interpreter, TensorFlow and a traced step
_WEIGHT_COPIES = (
    3  # the weights, Adagrad's sums, and what is copied while they are made and saved
)
_SCORE_COPIES = (
    5  # of [queries, candidates]: the scores, what the losses make of them, gradients
)
_VECTOR_COPIES = 6  # of [queries + candidates, dimensions]
_FIELD_COPIES = (
    3  # of [candidates * text fields, dimensions of a grain], for each text grain
)
_ROW_COPIES = 3  # of the rows of the tables that a batch looks up
_IDS_PER_ROW = 20  # of the ids of a batch, how many are the same
_PER_ENTRY = 200  # bytes of a vocabulary's entry, in Python and in a lookup table
_BYTES_PER_ID = 1.5  # in a record
_WAITING = 7  # batches that are parsed and not yet used
_PER_STRING = 150  # bytes that TensorFlow needs for a record beside its own
_SHUFFLED = 16  # batches whose records wait to be shuffled
# An estimate that is this much too high still lets a training start.
_TOLERANCE = 1.35
_CHECKPOINTS = (
    3  # two are kept while another is written, and so is the best one if there is one
)
_LOGS = 1_000_000  # bytes of metrics and TensorBoard's files
_PER_LINE = 10  # bytes of a vocabulary's entry in its file


class Memory(NamedTuple):
    """What a training holds at its peak, in bytes.

    Attributes:
        tables: The weights, nearly all of them embedding tables, their optimiser's sums, and the vocabularies.
        step: What a step computes.
        records: Records and batches that wait for their step.
        process: What every training needs.
    """

    tables: int
    step: int
    records: int
    process: int = _PROCESS

    @property
    def total(self) -> int:
        return sum(self)


def num_weights(config: TrainConfig, spec: schema.FeatureSpec) -> int:
    """Trainable numbers of the model, without those of the fusion weights."""
    grains = config.chosen_grains(spec)
    text = [g for g in grains if g.kind is schema.GrainKind.TEXT]
    attributes = [g for g in grains if g.kind is not schema.GrainKind.TEXT]
    text_dim = len(text) * config.embedding_dim
    fused = text_dim + len(attributes) * config.attribute_dim
    tables = config.embedding_dim * sum(g.size for g in text)
    tables += config.attribute_dim * sum(g.size for g in attributes)
    if config.fusion == "early":
        return tables + text_dim * fused + fused * fused
    of_text = 2 * len(text) * config.embedding_dim**2
    return tables + of_text + len(attributes) * text_dim * config.attribute_dim


def memory(
    config: TrainConfig, manifest: schema.Manifest, record_bytes: Mapping[str, float]
) -> Memory:
    """Estimates a training's peak.

    Args:
        config: The training config.
        manifest: The manifest of its examples.
        record_bytes: Mean size of an unpacked record, by stream.
    """
    grains = config.chosen_grains(manifest.features)
    text = [g for g in grains if g.kind is schema.GrainKind.TEXT]
    dimensions = len(text) * config.embedding_dim
    dimensions += (len(grains) - len(text)) * config.attribute_dim
    num_requests, slots = _requests(config, manifest)
    queries = num_requests + config.synthetic_queries
    candidates = _distinct(manifest.num_items, slots, config.num_random_items)
    # What is not text is small beside it, so a record is about its ids.
    item_bytes = record_bytes.get(schema.ITEMS) or record_bytes[schema.TRAIN] / max(
        slots / num_requests, 1
    )
    ids = candidates * item_bytes / _BYTES_PER_ID
    entries = sum(g.size for g in grains)
    rows = min(ids / _IDS_PER_ROW, entries)
    numbers = (
        _SCORE_COPIES * queries * candidates
        + _VECTOR_COPIES * (queries + candidates) * dimensions
        + _FIELD_COPIES
        * candidates
        * len(manifest.features.text_fields)
        * len(text)
        * config.embedding_dim
        + _ROW_COPIES * rows * config.embedding_dim
    )
    return Memory(
        tables=_WEIGHT_COPIES * _FLOAT * num_weights(config, manifest.features)
        + _PER_ENTRY * entries,
        step=int(_FLOAT * numbers),
        records=int(_waiting(config, manifest, record_bytes)),
    )


def disk(config: TrainConfig, spec: schema.FeatureSpec) -> int:
    """Bytes that the model directory comes to, at the moment when a checkpoint is written."""
    vocabularies = _PER_LINE * sum(grain.size for grain in spec.grains)
    checkpoints = _CHECKPOINTS + (config.patience > 0)
    return checkpoints * 2 * _FLOAT * num_weights(config, spec) + vocabularies + _LOGS


def check(
    config: TrainConfig,
    manifest: schema.Manifest,
    record_bytes: Mapping[str, float],
    model_dir: Path,
    *,
    tables_elsewhere: bool = False,
    tell: Callable[[str], None] = say,
) -> None:
    """Says what a training will need, and refuses one that certainly finds too little.

    Args:
        config: The training config.
        manifest: The manifest of its examples.
        record_bytes: Mean size of an unpacked record, by stream.
        model_dir: The run's directory.
        tables_elsewhere: Whether other processes hold the tables.
        tell: What it is said by.

    Raises:
        CommandError: there is too little memory or disk.
    """
    need, room = memory(config, manifest, record_bytes), machine.available_memory()
    if tables_elsewhere:
        need = need._replace(tables=0)
    disk_need = disk(config, manifest.features)
    disk_room = machine.available_disk(model_dir) + _size(model_dir)
    tell(
        f"needs about {_gb(need.total)} of memory ({_gb(room)} available) and {_gb(disk_need)} of disk "
        f"({_gb(disk_room)} available)"
    )
    if need.total > _TOLERANCE * room:
        entries = sum(g.size for g in config.chosen_grains(manifest.features))
        raise CommandError(
            f"the training needs about {_gb(need.total)} of memory and {_gb(room)} are available: {_gb(need.tables)} "
            f"for the tables (embedding_dim {config.embedding_dim}, vocabularies of {entries:,} entries), "
            f"{_gb(need.step + need.records)} for a step ({_batch(config)}), {_gb(need.process)} for the program; "
            "lower what is large there, or give it more memory"
        )
    if disk_need > disk_room:
        raise CommandError(
            f"the training needs {_gb(disk_need)} of disk for its checkpoints and {_gb(disk_room)} are free for "
            f"{model_dir}: make room, lower embedding_dim {config.embedding_dim}, or give a --model-dir elsewhere"
        )


@contextlib.contextmanager
def naming_shortage(config: TrainConfig) -> Iterator[None]:
    """Turns TensorFlow's error into a sentence if memory did not suffice after all.

    Raises:
        CommandError: it did not.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as e:
        raise CommandError(
            f"memory does not suffice for a step ({first_line(e)}): lower embedding_dim {config.embedding_dim} or the "
            f"size of the batches ({_batch(config)}), or give it more memory"
        ) from None


def _batch(config: TrainConfig) -> str:
    names = ("batch_size", "uniform_negatives", "synthetic_queries")
    return ", ".join(f"{name} {getattr(config, name)}" for name in names)


def _requests(config: TrainConfig, manifest: schema.Manifest) -> tuple[int, float]:
    """Requests of a batch of the log, and the slots in all of them."""
    if not config.use_log:
        return 0, 0.0
    counts = manifest.splits[schema.TRAIN]
    levels = [level for level in schema.Level if level is not schema.Level.RANDOM]
    if not config.unclicked:
        levels.remove(schema.Level.UNCLICKED)
    num_slots = sum(counts.get(level.name.lower(), 0) for level in levels)
    num_requests = min(config.batch_size, counts["requests"])
    return num_requests, num_requests * num_slots / counts["requests"]


def _distinct(num_items: int, slots: float, num_random: int) -> float:
    """Distinct items of a batch, if all items are shown alike: an upper bound, as they are not."""
    left = max(0.0, 1 - num_random / num_items)
    return num_items * (1 - left * math.exp(-slots / num_items))


def _waiting(
    config: TrainConfig, manifest: schema.Manifest, record_bytes: Mapping[str, float]
) -> float:
    """Bytes of the records that are shuffled, and of the batches that are ready."""
    there = {
        schema.TRAIN: (
            config.batch_size,
            manifest.splits.get(schema.TRAIN, {}).get("requests", 0),
        ),
        schema.ITEMS: (config.num_random_items, manifest.num_items),
    }
    total = 0.0
    for stream, size in record_bytes.items():
        batch, num_records = there[stream]
        total += min(_SHUFFLED * batch, num_records) * (size + _PER_STRING)
        # Ids take eight bytes each once they are parsed.
        total += _WAITING * min(batch, num_records) * size * 8 / _BYTES_PER_ID
    return total


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
