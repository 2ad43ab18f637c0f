"""Builds a model version, has a fresh process check it, and publishes it."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import tfrs_mmse
from serving.agreement import Reference, disagreement, exact_scores, recall, tolerance
from serving.index import ExactIndex, ScannIndex, import_scann, scann_settings
from serving.servable import WARMUP_REQUESTS
from serving.signatures import SearchModule, input_names, save
from serving.tuning import tune
from serving.versions import publish
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.corpus import Corpus, embed_items, embed_queries, read_queries
from tfrs_mmse.restore import Trained, load_trained

_NUM_QUERIES = 500  # to measure with, and as many again to tune with
_NUM_WARMUP = 8
_LIBRARIES = ("tensorflow", "tensorflow-text", "tf-keras", "tensorflow-recommenders", "scann", "numpy")
_ROOT = Path(tfrs_mmse.__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a model is exported.

    Attributes:
        index: `scann` or `exact`.
        k: Results per query.
        min_recall: Recall@k of the index against exact search below which the export fails.
        target_recall: Recall@k at which the tuning of ScaNN's search stops.
    """

    index: str = "scann"
    k: int = 100
    min_recall: float = 0.9
    target_recall: float = 0.97


class Queries(NamedTuple):
    """Query strings to measure with: `held_out` checks what was tuned on `tuning`. `source` says what they are."""

    held_out: list[str]
    tuning: list[str]
    source: str


def export(data: Path, model_dir: Path, output: Path, config: ExportConfig) -> dict[str, Any]:
    """Exports a model directory; see `serving.export`.

    Raises:
        CommandError: model and data cannot be used, ScaNN is not there, or the version does not answer as it should.
    """
    if config.index == "scann":
        import_scann()  # before the work, not after it
    trained = load_trained(data, model_dir)
    corpus = embed_items(trained, data)
    say(f"embedded {len(corpus.item_id)} items")
    queries = choose_queries(data, trained.manifest, corpus)
    return export_model(trained, corpus, queries, output, config, source={"data": str(data), "model": str(model_dir)})


def export_model(
    trained: Trained, corpus: Corpus, queries: Queries, output: Path, config: ExportConfig, *, source: dict[str, str]
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
    held_out = Reference(embed_queries(trained, queries.held_out), corpus.embedding, corpus.item_id)
    if not np.isfinite(held_out.query).all():
        raise CommandError("the model gives query embeddings that are not finite: its training diverged")
    index, settings = _build_index(trained, corpus, queries, config)
    manifest: dict[str, Any] = {
        "format_version": schema.FORMAT_VERSION,
        "index": {"kind": config.index, **settings},
        "k": config.k,
        "num_items": len(corpus.item_id),
        "dimensions": corpus.embedding.shape[1],
        "embed_item_inputs": {name: column for column, name in _item_inputs(trained).items()},
        "training_config": trained.config.to_dict(),
        "source": source,
        "library_versions": dict(_library_versions()),
    }
    output.mkdir(parents=True, exist_ok=True)
    with _scratch(output) as scratch:
        version_dir = scratch / "version"
        module = SearchModule(
            featurizer=trained.featurizer, model=trained.model, index=index, item_id=corpus.item_id, k=config.k
        )
        save(module, str(version_dir))
        index.release()
        _write_json(version_dir / schema.MANIFEST, manifest)
        write_warmup_requests(version_dir, output.name, queries.held_out[:_NUM_WARMUP])
        say("wrote the SavedModel; a fresh process checks it")
        checked = _check(version_dir, scratch, trained, corpus, queries, held_out, config)
        _write_json(version_dir / schema.MANIFEST, {**manifest, **checked})
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
        split: read_queries(data, split, _NUM_QUERIES) if manifest.splits.get(split, {}).get("requests") else []
        for split in schema.SPLITS
    }
    if by_split[schema.TRAIN] and by_split[schema.TEST]:
        return Queries(by_split[schema.TEST], by_split[schema.TRAIN], f"queries of the {schema.TEST} split")
    if either := by_split[schema.TEST] or by_split[schema.TRAIN]:
        return Queries(either[::2], either[1::2] or either, "queries of the log, which has one split only")
    titles = [title.decode("utf-8", "replace") for title in corpus.title[: 4 * _NUM_QUERIES]]
    usable = [t for t in titles if any(c.isalnum() for c in t) and len(t.encode()) <= schema.MAX_QUERY_BYTES]
    if not usable:
        raise CommandError("expected queries or item titles with a letter or digit to measure with, found neither")
    usable = usable[: 2 * _NUM_QUERIES]
    return Queries(usable[::2], usable[1::2] or usable, "titles of items, for want of queries")


def check_corpus(corpus: Corpus) -> None:
    """Refuses a catalogue that cannot be searched.

    Raises:
        CommandError: it is empty, an id is empty or occurs twice, or a vector is not finite.
    """
    if not len(corpus.item_id):
        raise CommandError("expected a catalogue, but the items stream is empty: preprocess with --items")
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


def write_warmup_requests(version_dir: Path, model_name: str, queries: list[str]) -> None:
    """Writes real requests that a server replays before it calls the version available: one by one and as a batch."""
    path = version_dir / WARMUP_REQUESTS
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in [*([query] for query in queries), queries]:
            for name in (schema.SERVING_DEFAULT, schema.SEARCH_EXCLUDING):
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, name
                request.inputs[schema.QUERY].CopyFrom(tf.make_tensor_proto(batch, tf.string))
                if name == schema.SEARCH_EXCLUDING:
                    exclude = tf.make_tensor_proto([[""]] * len(batch), tf.string)
                    request.inputs[schema.EXCLUDE].CopyFrom(exclude)
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())


def _build_index(
    trained: Trained, corpus: Corpus, queries: Queries, config: ExportConfig
) -> tuple[ExactIndex | ScannIndex, dict[str, Any]]:
    if config.index == "exact":
        return ExactIndex(corpus.embedding), {}
    index = ScannIndex(corpus.embedding, scann_settings(len(corpus.item_id), config.k), k=config.k)
    if index.settings.num_leaves:
        tuning = Reference(embed_queries(trained, queries.tuning), corpus.embedding, corpus.item_id)
        reached = tune(index, tuning, k=config.k, target_recall=config.target_recall)
        say(f"ScaNN finds {reached:.3f} of the exact result with {index.settings}")
    return index, dataclasses.asdict(index.settings)


def _check(
    version_dir: Path,
    scratch: Path,
    trained: Trained,
    corpus: Corpus,
    queries: Queries,
    reference: Reference,
    config: ExportConfig,
) -> dict[str, Any]:
    """Compares a fresh process's answers with the training model's.

    Returns:
        For the manifest: `recall`, how it was measured, and `required_custom_ops`.
    """
    fields = _sample_fields(trained, corpus)
    names = _item_inputs(trained)
    _write_json(
        scratch / "requests.json",
        {"queries": queries.held_out, "fields": {names[column]: values for column, values in fields.items()}},
    )
    result = _run_verify(version_dir, scratch)
    with np.load(scratch / "answers.npz") as file:
        answers = dict(file)
    exact = exact_scores(reference, config.k)
    is_exact = config.index == "exact"
    wrong = disagreement(answers["item_id"], answers["score"], reference, exact=exact if is_exact else None)
    wrong = wrong or _rest_disagreement(answers, reference, exact, config, is_exact=is_exact)
    item_ids = trained.featurizer.items(
        {
            column: tf.constant(values, spec.dtype)
            for (column, values), spec in zip(
                fields.items(), (trained.featurizer.item_signature()[c] for c in fields), strict=True
            )
        }
    )
    for name, trained_embedding in (
        ("query_embedding", reference.query),
        ("item_embedding", trained.model.item_embedding(item_ids).numpy()),
    ):
        difference = np.abs(answers[name] - trained_embedding).max()
        if not difference <= tolerance(trained_embedding):
            wrong = wrong or f"its {name.replace('_', ' ')}s differ from the training model's by {difference:.2g}"
    if wrong:
        raise CommandError(f"the exported model does not answer as the trained one does, nothing is published: {wrong}")
    found = recall(answers["score"], exact)
    if found < config.min_recall:
        raise CommandError(
            f"the {config.index} index finds {found:.3f} of the exact top {config.k}, less than --min-recall "
            f"{config.min_recall}, nothing is published: raise --target-recall, or use --index exact"
        )
    return {
        "recall": found,
        "recall_queries": {"number": len(queries.held_out), "source": queries.source},
        "required_custom_ops": result["required_custom_ops"],
    }


def _rest_disagreement(
    answers: dict[str, np.ndarray], reference: Reference, exact: np.ndarray, config: ExportConfig, *, is_exact: bool
) -> str:
    """What is wrong with the answers of `search_excluding`, which left out each query's first item."""
    if (answers["rest_item_id"] == answers["item_id"][:, :1])[answers["item_id"][:, 0] != b""].any():
        return f"{schema.SEARCH_EXCLUDING} served an excluded item"
    rest = exact_scores(reference, config.k + 1)[:, 1:] if is_exact and len(reference.item) > 1 else None
    wrong = disagreement(answers["rest_item_id"], answers["rest_score"], reference, exact=rest)
    return f"{schema.SEARCH_EXCLUDING}: {wrong}" if wrong else ""


def _run_verify(version_dir: Path, scratch: Path) -> dict[str, Any]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "serving.verify", "--version-dir", str(version_dir)),
            *("--requests", str(scratch / "requests.json"), "--answers", str(scratch / "answers.npz")),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"])[-1]
        raise CommandError(f"a fresh process cannot use the exported model, nothing is published: {last}")
    return json.loads(finished.stdout)


def _sample_fields(trained: Trained, corpus: Corpus) -> dict[str, list[Any]]:
    """Raw fields of a few items by column: titles as in the catalogue, everything else missing."""
    titles = [title.decode("utf-8", "replace") for title in corpus.title[:32]]
    first = trained.featurizer.spec.text_fields[0]
    return {
        column: titles if column == first else [""] * len(titles) if spec.dtype == tf.string else [1.0] * len(titles)
        for column, spec in trained.featurizer.item_signature().items()
    }


def _item_inputs(trained: Trained) -> dict[str, str]:
    return input_names(trained.featurizer.item_signature())


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


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
