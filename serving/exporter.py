"""Builds a model version, has a fresh process check it, and publishes it."""

import contextlib
import dataclasses
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import tfrs_mmse
from serving.agreement import Queries, Reference
from serving.check import check_version, item_inputs, write_json
from serving.config import ExportConfig
from serving.embeddings import read_embeddings
from serving.index import ExactIndex, ScannIndex, import_scann, scann_settings
from serving.servable import WARMUP_REQUESTS
from serving.signatures import SearchModule, save
from serving.tuning import tune
from serving.versions import publish
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.corpus import Corpus, embed_items, embed_queries, read_queries
from tfrs_mmse.restore import Trained, load_trained

_NUM_QUERIES = 500  # to measure with, and as many again to tune with
_NUM_WARMUP = 8
_LIBRARIES = (
    "tensorflow",
    "tensorflow-text",
    "tf-keras",
    "tensorflow-recommenders",
    "scann",
    "numpy",
)


def export(
    data: Path,
    model_dir: Path,
    output: Path,
    config: ExportConfig,
    *,
    embeddings: Path | None = None,
) -> dict[str, Any]:
    """Exports a model directory; see `serving.export`.

    Args:
        data: The examples that the model was trained on.
        model_dir: The model.
        output: Base path of the versions.
        config: See there.
        embeddings: Directory with the catalogue's embeddings; None: the examples' catalogue is embedded.

    Raises:
        CommandError: model, data or embeddings cannot be used, ScaNN is not there, or the version does not answer as
            it should.
    """
    if config.index == "scann":
        import_scann()  # before the work, not after it
    trained = load_trained(data, model_dir)
    source = {"data": str(data), "model": str(model_dir)}
    if embeddings is None:
        corpus = embed_items(trained, data)
        say(f"embedded {len(corpus.item_id)} items")
    else:
        corpus = read_embeddings(embeddings, trained)
        say(f"read the embeddings of {len(corpus.item_id)} items")
        source["embeddings"] = str(embeddings)
    queries = choose_queries(data, trained.manifest, corpus)
    return export_model(
        trained,
        corpus,
        queries,
        output,
        config,
        source=source,
    )


def export_model(
    trained: Trained,
    corpus: Corpus,
    queries: Queries,
    output: Path,
    config: ExportConfig,
    *,
    source: dict[str, str],
) -> dict[str, Any]:
    """Exports a model in memory.

    Args:
        trained: The model and its featurizer.
        corpus: Its catalogue.
        queries: To measure with.
        output: Base path of the versions.
        config: See there.
        source: What the version was made from, for its manifest.

    Returns:
        `path`, `version`, `index`, `recall`, `k`, `num_items`, `dimensions`.
    """
    check_corpus(corpus)
    held_out = Reference(
        embed_queries(trained, queries.held_out), corpus.embedding, corpus.item_id
    )
    if not np.isfinite(held_out.query).all():
        raise CommandError(
            "the model gives query embeddings that are not finite: its training diverged"
        )
    index, settings = _build_index(trained, corpus, queries, config)
    manifest: dict[str, Any] = {
        "format_version": schema.FORMAT_VERSION,
        "index": {"kind": config.index, **settings},
        "k": config.k,
        "num_items": len(corpus.item_id),
        "dimensions": corpus.embedding.shape[1],
        "embed_item_inputs": {
            name: column for column, name in item_inputs(trained).items()
        },
        "training_config": trained.config.to_dict(),
        "source": source,
        "library_versions": dict(_library_versions()),
    }
    output.mkdir(parents=True, exist_ok=True)
    with _scratch(output) as scratch:
        version_dir = scratch / "version"
        module = SearchModule(
            featurizer=trained.featurizer,
            model=trained.model,
            index=index,
            item_id=corpus.item_id,
            k=config.k,
        )
        save(module, str(version_dir))
        index.release()
        write_json(version_dir / schema.MANIFEST, manifest)
        write_warmup_requests(version_dir, output.name, queries.held_out[:_NUM_WARMUP])
        say("wrote the SavedModel; a fresh process checks it")
        checked = check_version(
            version_dir, scratch, trained, corpus, queries, held_out, config
        )
        write_json(version_dir / schema.MANIFEST, {**manifest, **checked})
        path = publish(version_dir, output)
    return {
        "path": str(path),
        "version": int(path.name),
        "index": config.index,
        "recall": checked["recall"],
        "k": config.k,
        "num_items": len(corpus.item_id),
        "dimensions": corpus.embedding.shape[1],
    }


def choose_queries(data: Path, manifest: schema.Manifest, corpus: Corpus) -> Queries:
    """Held-out queries of the log and training queries to tune with; where the log has none, the items' titles."""
    by_split = {
        split: read_queries(data, split, _NUM_QUERIES)
        if manifest.splits.get(split, {}).get("requests")
        else []
        for split in schema.SPLITS
    }
    if by_split[schema.TRAIN] and by_split[schema.TEST]:
        return Queries(
            by_split[schema.TEST],
            by_split[schema.TRAIN],
            f"queries of the {schema.TEST} split",
        )
    if either := by_split[schema.TEST] or by_split[schema.TRAIN]:
        return Queries(
            either[::2],
            either[1::2] or either,
            "queries of the log, which has one split only",
        )
    titles = [
        title.decode("utf-8", "replace") for title in corpus.title[: 4 * _NUM_QUERIES]
    ]
    usable = [
        t
        for t in titles
        if any(c.isalnum() for c in t) and len(t.encode()) <= schema.MAX_QUERY_BYTES
    ]
    if not usable:
        raise CommandError(
            "expected queries or item titles with a letter or digit to measure with, found neither"
        )
    usable = usable[: 2 * _NUM_QUERIES]
    return Queries(
        usable[::2], usable[1::2] or usable, "titles of items, for want of queries"
    )


def check_corpus(corpus: Corpus) -> None:
    """Refuses a catalogue that cannot be searched.

    Raises:
        CommandError: it is empty, an id is empty or occurs twice, or a vector is not finite.
    """
    if not len(corpus.item_id):
        raise CommandError(
            "expected a catalogue, but the items stream is empty: preprocess with --items"
        )
    unique, counts = np.unique(corpus.item_id.astype(bytes), return_counts=True)
    if (counts > 1).any():
        repeated = unique[counts > 1]
        raise CommandError(
            f"item ids must be unique, but {len(repeated)} occur more than once, {repeated[0].decode()} for one: "
            "preprocess the catalogue anew"
        )
    if b"" in corpus.item_id:
        raise CommandError("item ids must not be empty: preprocess the catalogue anew")
    bad = ~np.isfinite(corpus.embedding).all(axis=1)
    if bad.any():
        raise CommandError(
            f"the model gives {bad.sum()} of {len(bad)} item embeddings that are not finite: its training diverged"
        )


def write_warmup_requests(
    version_dir: Path, model_name: str, queries: list[str]
) -> None:
    """Writes real requests that a server replays before it calls the version available: one by one and as a batch."""
    path = version_dir / WARMUP_REQUESTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in [*([query] for query in queries), queries]:
            for name in (schema.SERVING_DEFAULT, schema.SEARCH_EXCLUDING):
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = (
                    model_name,
                    name,
                )
                request.inputs[schema.QUERY].CopyFrom(
                    tf.make_tensor_proto(batch, tf.string)
                )
                if name == schema.SEARCH_EXCLUDING:
                    exclude = tf.make_tensor_proto([[""]] * len(batch), tf.string)
                    request.inputs[schema.EXCLUDE].CopyFrom(exclude)
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


def _build_index(
    trained: Trained, corpus: Corpus, queries: Queries, config: ExportConfig
) -> tuple[ExactIndex | ScannIndex, dict[str, Any]]:
    if config.index == "exact":
        return ExactIndex(corpus.embedding), {}
    index = ScannIndex(
        corpus.embedding, scann_settings(len(corpus.item_id), config.k), k=config.k
    )
    if index.settings.num_reorder:
        tuning = Reference(
            embed_queries(trained, queries.tuning), corpus.embedding, corpus.item_id
        )
        reached = tune(index, tuning, k=config.k, target_recall=config.target_recall)
        say(f"ScaNN finds {reached:.3f} of the exact result with {index.settings}")
    return index, dataclasses.asdict(index.settings)


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A directory beside the versions whose name is no number, so that no server looks into it."""
    directory = Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-", dir=output))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _library_versions() -> Iterator[tuple[str, str]]:
    yield "tfrs-mmse", tfrs_mmse.__version__
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
