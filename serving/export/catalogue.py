"""The catalogue that is exported: embedded onto the disk, and checked."""

from pathlib import Path

import numpy as np

from serving.export.vector_file import VectorFile
from tfrs_mmse.cli import CommandError
from tfrs_mmse.corpus import (
    Corpus,
    concatenate,
    embed_batches,
    read_attributes,
)
from tfrs_mmse.restore import Trained

_BATCH = 4096  # vectors looked at at a time


def embed_catalogue(trained: Trained, data: Path, path: Path) -> Corpus:
    """Embeds the catalogue of examples.

    Args:
        trained: The model.
        data: Directory of examples.
        path: New file for the vectors, of which the corpus holds a memory map.

    Raises:
        CommandError: the catalogue is empty, or not as large as its manifest says.
    """
    file, batches = None, []
    for batch in embed_batches(trained, data):
        if file is None:
            dimensions = batch.embedding.shape[1]
            file = VectorFile(path, trained.manifest.num_items, dimensions)
        file.append(batch.embedding)
        batches.append(batch._replace(embedding=batch.embedding[:0]))
    if file is None:
        raise _empty()
    attributes = read_attributes(data, trained.manifest.features)
    corpus = concatenate(batches)
    return corpus._replace(embedding=file.read(), attributes=attributes)


def check_corpus(corpus: Corpus) -> None:
    """Refuses a catalogue that cannot be searched.

    Raises:
        CommandError: it is empty, an id is empty or occurs twice, or a vector is not finite.
    """
    if not len(corpus.item_id):
        raise _empty()
    unique, counts = np.unique(corpus.item_id.astype(bytes), return_counts=True)
    if (counts > 1).any():
        repeated = unique[counts > 1]
        raise CommandError(
            f"item ids must be unique, but {len(repeated)} occur more than once, {repeated[0].decode()} for one: "
            "preprocess the catalogue anew"
        )
    if b"" in corpus.item_id:
        raise CommandError("item ids must not be empty: preprocess the catalogue anew")
    vectors = corpus.embedding
    bad = sum(
        int((~np.isfinite(vectors[start : start + _BATCH])).any(axis=1).sum())
        for start in range(0, len(vectors), _BATCH)
    )
    if bad:
        raise CommandError(
            f"the model gives {bad} of {len(vectors)} item embeddings that are not finite: its training diverged"
        )


def _empty() -> CommandError:
    return CommandError(
        "expected a catalogue, but the items stream is empty: preprocess with --items"
    )
