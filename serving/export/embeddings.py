"""Reads the embeddings that `beam.embed_items` wrote, and sees that they are those of the model to be exported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from serving.export.agreement import tolerance
from serving.export.vector_file import VectorFile
from tfrs_mmse import embeddings, restore
from tfrs_mmse.cli import CommandError
from tfrs_mmse.corpus import Corpus
from tfrs_mmse.embeddings import EmbeddingsManifest
from tfrs_mmse.features import Featurizer
from tfrs_mmse.restore import Trained


def read_embeddings(directory: Path, trained: Trained, path: Path) -> Corpus:
    """Reads all shards, in their order, one at a time.

    Args:
        directory: What `beam.embed_items` wrote.
        trained: The model that must have made them.
        path: New file for the vectors, of which the corpus holds a memory map.

    Raises:
        CommandError: they are another model's or other features', the model embeds some of their items otherwise, or
            a shard is missing or broken.
    """
    manifest = EmbeddingsManifest.read(directory)
    _check_fits(manifest, directory, trained)
    item_id, title, samples = [], [], []
    sampled: list[np.ndarray] = []
    columns = {
        grain.name: embeddings.value_column(grain.name)
        for grain in trained.manifest.features.attribute_grains
    }
    attributes: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    with VectorFile(path, manifest.num_items, manifest.dimensions) as file:
        filled = 0
        for name in manifest.shards():
            table = _read_shard(directory / name, manifest.dimensions)
            item_id.append(_bytes(table[embeddings.ITEM_ID]))
            title.append(_bytes(table[embeddings.TITLE]))
            for attribute, column in columns.items():
                if column in table.column_names:
                    attributes[attribute].append(_values(table[column]))
            vectors = table[embeddings.EMBEDDING].combine_chunks().flatten().to_numpy()
            vectors = vectors.reshape(-1, manifest.dimensions)
            file.append(vectors)
            sample = json.loads(table.schema.metadata[embeddings.SAMPLE])
            samples.append(sample)
            sampled.append(vectors[: len(next(iter(sample.values())))].copy())
            filled += table.num_rows
        if filled != manifest.num_items:
            raise CommandError(
                f"the shards in {directory} hold {filled} items, but their manifest says {manifest.num_items}: "
                "embed the catalogue anew"
            )
        embedding = file.read()
    _check_sample(samples, np.concatenate(sampled), directory, trained)
    return Corpus(
        np.concatenate(item_id),
        embedding,
        np.concatenate(title),
        {
            name: np.concatenate(values)
            for name, values in attributes.items()
            if len(values) == manifest.num_shards
        },
    )


def _check_fits(
    manifest: EmbeddingsManifest, directory: Path, trained: Trained
) -> None:
    ours = trained.manifest
    fingerprint = restore.fingerprint(trained.config, trained.model)
    if manifest.vocabulary_hash != ours.vocabulary_hash:
        wrong = f"the vocabularies {manifest.vocabulary_hash[:12]}, the model has {ours.vocabulary_hash[:12]}"
    elif manifest.features != ours.features:
        wrong = "other features than the model has"
    elif manifest.model_fingerprint != fingerprint:
        wrong = (
            f"the model {manifest.model_fingerprint[:12]}, this is {fingerprint[:12]}"
        )
    else:
        return
    raise CommandError(
        f"the embeddings in {directory} were made with {wrong}: give the model that made them, or embed the "
        "catalogue anew with `python -m beam.embed_items`"
    )


def _read_shard(path: Path, dimensions: int) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise CommandError(
            f"the shard {path} is not there: copy the whole directory of embeddings"
        ) from None
    except pa.ArrowException as e:
        first = str(e).partition("\n")[0]
        raise CommandError(
            f"{path} is not a whole Parquet file ({first}): copy it here again"
        ) from None
    wanted = pa.list_(pa.float32(), dimensions)
    found = {field.name: field.type for field in table.schema}
    is_ours = embeddings.SAMPLE in (table.schema.metadata or {})
    if not is_ours or found.get(embeddings.EMBEDDING) != wanted:
        raise CommandError(
            f"{path} is no shard of {dimensions} dimensions that beam.embed_items wrote: embed the catalogue anew"
        )
    return table


def _bytes(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.binary()).to_numpy()


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy() if column.type == pa.float32() else _bytes(column)


def _check_sample(
    samples: list[dict[str, list[Any]]],
    embedding: np.ndarray,
    directory: Path,
    trained: Trained,
) -> None:
    """Embeds the first items of every shard again.

    Args:
        samples: Their raw fields, shard by shard.
        embedding: [S, D] what the shards say of them.
        directory: Of the shards.
        trained: The model.
    """
    if not len(embedding):
        return
    fields = _fields(samples, trained.featurizer)
    again = trained.model.item_embedding(trained.featurizer.items(fields)).numpy()
    difference = np.abs(again - embedding).max()
    if not difference <= tolerance(again):
        raise CommandError(
            f"the model embeds items of {directory} otherwise than is written there, by up to {difference:.2g}: "
            "embed the catalogue anew"
        )


def _fields(
    samples: list[dict[str, list[Any]]], featurizer: Featurizer
) -> dict[str, tf.Tensor]:
    fields = {}
    for name, spec in featurizer.item_signature().items():
        values = [value for sample in samples for value in sample[name]]
        missing = "" if spec.dtype == tf.string else np.nan
        fields[name] = tf.constant(
            [missing if value is None else value for value in values], spec.dtype
        )
    return fields
