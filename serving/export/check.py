"""Has a fresh process answer with a new version, and compares its answers with the training model's."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import tfrs_mmse
from serving.export.agreement import (
    Queries,
    Reference,
    disagreement,
    exact_scores,
    recall,
    tolerance,
)
from serving.export.config import ExportConfig
from serving.export.sample_filters import passing, sample_filters
from serving.index.signatures import MAX_K, input_names
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.corpus import Corpus
from tfrs_mmse.restore import Trained

_ROOT = Path(tfrs_mmse.__file__).resolve().parent.parent


def check_version(
    version_dir: Path,
    scratch: Path,
    trained: Trained,
    corpus: Corpus,
    queries: Queries,
    reference: Reference,
    config: ExportConfig,
) -> dict[str, Any]:
    """Compares a fresh process's answers with the training model's.

    Args:
        version_dir: The version, with a preliminary manifest.
        scratch: Where questions and answers are exchanged.
        trained: The model.
        corpus: Its catalogue.
        queries: The held-out ones are asked.
        reference: The training model's embeddings of them and of the catalogue.
        config: How it was exported; `index` is the kind that was chosen.

    Returns:
        For the manifest: `recall`, how it was measured, and `required_custom_ops`.

    Raises:
        CommandError: the version cannot be loaded, answers something else, or finds too little.
    """
    fields = _sample_fields(trained, corpus)
    names = item_inputs(trained)
    inputs = {names[column]: values for column, values in fields.items()}
    filters = sample_filters(corpus.attributes)
    requests = {
        "queries": queries.held_out,
        "fields": inputs,
        "filters": filters,
        "k": min(config.k, MAX_K),
    }
    write_json(scratch / "requests.json", requests)
    result = run_verify(version_dir, scratch)
    with np.load(scratch / "answers.npz") as file:
        answers = dict(file)
    exact = exact_scores(reference, config.k)
    inside = list(_inside(answers, reference, corpus, filters))
    wrong = (
        disagreement(
            answers["item_id"],
            answers["score"],
            reference,
            exact=exact if config.index == "exact" else None,
        )
        or _rest_disagreement(answers, reference, config)
        or _filtered_disagreement(inside, config)
        or _embedding_disagreement(answers["query_embedding"], reference.query)
        or _embedding_disagreement(
            answers["item_embedding"], _embed_fields(trained, fields)
        )
    )
    if wrong:
        raise CommandError(
            f"the exported model does not answer as the trained one does, nothing is published: {wrong}"
        )
    found = recall(answers["score"], exact)
    for what, share in [
        (f"top {config.k}", found),
        *(
            (f"top {a.score.shape[1]} inside {a.clauses}", recall(a.score, a.exact))
            for a in inside
        ),
    ]:
        if share < config.min_recall:
            raise CommandError(
                f"the {config.index} index finds {share:.3f} of the exact {what}, less than --min-recall "
                f"{config.min_recall}, nothing is published: raise --target-recall, or use --index exact"
            )
    return {
        "recall": found,
        "recall_queries": {"number": len(queries.held_out), "source": queries.source},
        "required_custom_ops": result["required_custom_ops"],
    }


def _rest_disagreement(
    answers: dict[str, np.ndarray], reference: Reference, config: ExportConfig
) -> str:
    """What is wrong with the answers of `search_excluding`, which left out each query's first item."""
    if (answers["rest_item_id"] == answers["item_id"][:, :1])[
        answers["item_id"][:, 0] != b""
    ].any():
        return f"{schema.SEARCH_EXCLUDING} served an excluded item"
    is_exact = config.index == "exact" and len(reference.item) > 1
    rest = exact_scores(reference, config.k + 1)[:, 1:] if is_exact else None
    wrong = disagreement(
        answers["rest_item_id"], answers["rest_score"], reference, exact=rest
    )
    return f"{schema.SEARCH_EXCLUDING}: {wrong}" if wrong else ""


class _Inside(NamedTuple):
    """The answers inside one filter, and what they should be: see `disagreement`."""

    clauses: list[str]
    item_id: np.ndarray
    score: np.ndarray
    num_matching: np.ndarray
    reference: Reference
    exact: np.ndarray


def _inside(
    answers: dict[str, np.ndarray],
    reference: Reference,
    corpus: Corpus,
    filters: list[list[str]],
) -> Iterator[_Inside]:
    for number, clauses in enumerate(filters):
        item_id, score, num_matching = (
            answers[name][number]
            for name in ("filtered_item_id", "filtered_score", "num_matching")
        )
        passes = passing(corpus, clauses)
        query = reference.query[: len(score)]
        inside = Reference(query, reference.item[passes], reference.item_id[passes])
        exact = exact_scores(inside, score.shape[1])
        yield _Inside(clauses, item_id, score, num_matching, inside, exact)


def _filtered_disagreement(inside: list[_Inside], config: ExportConfig) -> str:
    """What is wrong with the answers inside filters."""
    for answer in inside:
        exact, num_items = answer.exact, len(answer.reference.item)
        found = (answer.score > -np.inf).sum(axis=1)
        wrong = disagreement(
            answer.item_id,
            answer.score,
            answer.reference,
            exact=exact if config.index == "exact" else None,
        )
        if (answer.num_matching != num_items).any():
            wrong = f"num_matching is not {num_items}"
        elif (found != exact.shape[1]).any():
            wrong = f"{found.min()} items were served where {exact.shape[1]} exist"
        if wrong:
            return f"{schema.SEARCH_FILTERED} with {answer.clauses}: {wrong}"
    return ""


def _embedding_disagreement(served: np.ndarray, trained: np.ndarray) -> str:
    difference = np.abs(served - trained).max()
    return (
        ""
        if difference <= tolerance(trained)
        else f"embeddings differ from the training model's by {difference:.2g}"
    )


def _embed_fields(trained: Trained, fields: dict[str, list[Any]]) -> np.ndarray:
    specs = trained.featurizer.item_signature()
    tensors = {
        column: tf.constant(values, specs[column].dtype)
        for column, values in fields.items()
    }
    return trained.model.item_embedding(trained.featurizer.items(tensors)).numpy()


def run_verify(version_dir: Path, scratch: Path) -> dict[str, Any]:
    """Runs `serving.export.verify`, which reads `requests.json` in `scratch` and writes `answers.npz` there.

    Raises:
        CommandError: the process failed.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    finished = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "serving.export.verify",
                "--version-dir",
                str(version_dir),
            ),
            *(
                "--requests",
                str(scratch / "requests.json"),
                "--answers",
                str(scratch / "answers.npz"),
            ),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = (
            finished.stderr.strip().splitlines()
            or [f"exit status {finished.returncode}"]
        )[-1]
        raise CommandError(
            f"a fresh process cannot use the exported model, nothing is published: {last}"
        )
    return json.loads(finished.stdout)


def _sample_fields(trained: Trained, corpus: Corpus) -> dict[str, list[Any]]:
    """Raw fields of a few items by column: titles as in the catalogue, everything else missing."""
    titles = [title.decode("utf-8", "replace") for title in corpus.title[:32]]
    first = trained.featurizer.spec.text_fields[0]
    return {
        column: titles
        if column == first
        else [""] * len(titles)
        if spec.dtype == tf.string
        else [1.0] * len(titles)
        for column, spec in trained.featurizer.item_signature().items()
    }


def item_inputs(trained: Trained) -> dict[str, str]:
    """The name of each item column as an input of `embed_item`."""
    return input_names(trained.featurizer.item_signature())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes values for people and programs."""
    path.write_text(
        json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
