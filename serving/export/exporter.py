"""Builds a model version, has a fresh process check it, and publishes it."""

import contextlib
import dataclasses
import gc
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tfrs_mmse
from serving.export import footprint
from serving.export.agreement import Queries, Reference
from serving.export.catalogue import check_corpus, embed_catalogue
from serving.export.check import check_version, item_inputs, write_json
from serving.export.config import ExportConfig
from serving.export.curve import plot
from serving.export.embeddings import read_embeddings
from serving.export.queries import choose_queries
from serving.export.sample_filters import sample_filters
from serving.export.tuning import Tuned, tune
from serving.export.vector_file import forget
from serving.export.warmup import write_warmup_requests
from serving.index.exact import ExactIndex
from serving.index.filters import filterable
from serving.index.scann import ScannIndex, import_scann
from serving.index.signatures import SearchModule, save
from serving.server.saved_model import FILES, file_sizes
from serving.versions import publish
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.corpus import Corpus, embed_queries
from tfrs_mmse.embeddings import EmbeddingsManifest
from tfrs_mmse.restore import Trained, load_trained

CURVE = "index.svg"  # beside the manifest
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
    num_items = trained.manifest.num_items
    if embeddings is not None:
        num_items = EmbeddingsManifest.read(embeddings).num_items
        source["embeddings"] = str(embeddings)
    dimensions = embed_queries(trained, ["a"]).shape[1]
    footprint.check(num_items, dimensions, trained, output)
    output.mkdir(parents=True, exist_ok=True)
    with _scratch(output) as scratch:
        path = scratch / "embeddings.npy"
        if embeddings is None:
            corpus = embed_catalogue(trained, data, path)
            say(f"embedded {len(corpus.item_id)} items")
        else:
            corpus = read_embeddings(embeddings, trained, path)
            say(f"read the embeddings of {len(corpus.item_id)} items")
        queries = choose_queries(data, trained.manifest, corpus)
        return export_model(trained, corpus, queries, output, config, source=source)


def export_model(
    trained: Trained,
    corpus: Corpus,
    queries: Queries,
    output: Path,
    config: ExportConfig,
    *,
    source: dict[str, str],
) -> dict[str, Any]:
    """Exports a model and a catalogue that is embedded already.

    Args:
        trained: The model and its featurizer.
        corpus: The catalogue; its vectors may be a memory map.
        queries: To measure with.
        output: Base path of the versions.
        config: See there.
        source: What the version was made from, for its manifest.

    Returns:
        `path`, `version`, `index` (the kind that was chosen), `recall`, `k`, `num_items`, `dimensions`.
    """
    check_corpus(corpus)
    held_out = Reference(
        embed_queries(trained, queries.held_out), corpus.embedding, corpus.item_id
    )
    if not np.isfinite(held_out.query).all():
        raise CommandError(
            "the model gives query embeddings that are not finite: its training diverged"
        )
    output.mkdir(parents=True, exist_ok=True)
    with _scratch(output) as scratch:
        version_dir = scratch / "version"
        manifest = _write_version(
            version_dir, trained, corpus, queries, config, source=source
        )
        write_warmup_requests(
            version_dir,
            output.name,
            queries.held_out[:_NUM_WARMUP],
            sample_filters(corpus.attributes),
        )
        # The process that checks needs the memory now; traced functions refer to each other in circles.
        gc.collect()
        forget(corpus.embedding)
        say("wrote the SavedModel; a fresh process checks it")
        kind = manifest["index"]["kind"]
        checked = check_version(
            version_dir,
            scratch,
            trained,
            corpus,
            queries,
            held_out,
            dataclasses.replace(config, index=kind),
        )
        whole = {**manifest, **checked, FILES: file_sizes(version_dir)}
        write_json(version_dir / schema.MANIFEST, whole)
        path = publish(version_dir, output)
    return {
        "path": str(path),
        "version": int(path.name),
        "index": kind,
        "recall": checked["recall"],
        "k": config.k,
        "num_items": len(corpus.item_id),
        "dimensions": corpus.embedding.shape[1],
    }


def _write_version(
    version_dir: Path,
    trained: Trained,
    corpus: Corpus,
    queries: Queries,
    config: ExportConfig,
    *,
    source: dict[str, str],
) -> dict[str, Any]:
    """Chooses the index and writes SavedModel, curve and a preliminary manifest, which is returned."""
    index: ExactIndex | ScannIndex
    about: dict[str, Any]
    tuned = None
    if config.index == "exact":
        index, about = ExactIndex(corpus.embedding), {"index": {"kind": "exact"}}
    else:
        tuning = Reference(
            embed_queries(trained, queries.tuning), corpus.embedding, corpus.item_id
        )
        tuned = tune(tuning, k=config.k, target_recall=config.target_recall)
        index, about = tuned.index, _describe(tuned, queries, config)
    manifest = {
        "format_version": schema.FORMAT_VERSION,
        **about,
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
    if unusable := [name for name in corpus.attributes if not filterable(name)]:
        say(
            f"no filter can name {', '.join(map(repr, unusable))}: rename what holds = < > or white space around it"
        )
    module = SearchModule(
        featurizer=trained.featurizer,
        model=trained.model,
        index=index,
        item_id=corpus.item_id,
        k=config.k,
        attributes=corpus.attributes,
    )
    manifest["attributes"] = module.table.describe()
    save(module, str(version_dir))
    index.release()
    if tuned:
        plot(version_dir / CURVE, tuned.curve, tuned.choice, config.target_recall)
    write_json(version_dir / schema.MANIFEST, manifest)
    return manifest


def _describe(tuned: Tuned, queries: Queries, config: ExportConfig) -> dict[str, Any]:
    """For the manifest: the index that was chosen and why, and everything that was measured."""
    chosen = tuned.choice.measured
    settings = dataclasses.asdict(chosen.settings) if chosen.settings else {}
    return {
        "index": {"kind": chosen.kind, **settings, "reason": tuned.choice.reason},
        "tuning": {
            "target_recall": config.target_recall,
            "queries": {"number": len(queries.tuning), "source": queries.source},
            "cores": len(os.sched_getaffinity(0)),
            "chosen": tuned.curve.index(chosen),
            "curve": [measured.to_dict() for measured in tuned.curve],
        },
    }


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
