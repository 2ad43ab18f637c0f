"""One evaluation: every held-out query against the whole catalogue, by the model and by BM25, and what follows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfrs_mmse import (
    bm25,
    cli,
    corpus,
    groups,
    level_scores,
    metrics,
    per_query,
    relevance,
    restore,
    retrieval,
    schema,
    significance,
)
from tfrs_mmse.corpus import Corpus
from tfrs_mmse.level_scores import LevelScores
from tfrs_mmse.metrics import Figures, Judgements
from tfrs_mmse.per_query import Previous
from tfrs_mmse.relevance import Qrels
from tfrs_mmse.restore import Trained
from tfrs_mmse.retrieval import SearchResult

BM25 = "bm25"
PREVIOUS = "previous"


class Evaluation(NamedTuple):
    """What was asked, what was found, and how good that is.

    Attributes:
        model_dir: Directory of the model.
        trained: The model.
        split: The split.
        qrels: Its queries and their levels; every Q below is in this order.
        items: The embedded catalogue.
        found: By system, the model's first: the `metrics.DEPTH` best items of each query.
        figures: By system: the figures of each query.
        level_scores: The model's scores of each query's own items.
        previous: The evaluation that this one is compared with.
        result: The document that `tfrs_mmse.evaluate` describes.
    """

    model_dir: Path
    trained: Trained
    split: str
    qrels: Qrels
    items: Corpus
    found: dict[str, SearchResult]
    figures: dict[str, Figures]
    level_scores: LevelScores
    previous: Previous | None
    result: dict[str, Any]


def evaluate(
    data: Path,
    model_dir: Path,
    split: str,
    *,
    held_out: Path | None = None,
    with_bm25: bool = True,
    compare: Path | None = None,
) -> Evaluation:
    """Retrieves for every query of a split and scores what was found.

    Args:
        data: Directory of examples.
        model_dir: Directory of a model that was trained on them.
        split: One of `schema.SPLITS`.
        held_out: Directory of the examples whose split is judged; None: `data`. The vocabularies may differ, for only
            query strings, item ids and levels are read there.
        with_bm25: Whether to evaluate the baseline too.
        compare: Directory of another model, whose evaluation of the same split is compared with this one.

    Raises:
        CommandError: data or model are missing, broken, or do not fit together, nothing in the split is relevant, or
            the other evaluation is missing or of something else.
    """
    trained = restore.load_trained(data, model_dir)
    if held_out is None and split not in trained.manifest.splits:
        raise cli.CommandError(
            f"{data} holds no requests of the split {split!r}: name examples that hold some with --held-out"
        )
    held_out = held_out or data
    qrels = relevance.read_qrels(held_out, split)
    queries = list(qrels)
    items = corpus.embed_items(trained, data)
    item_ids = items.item_id.tolist()
    task = per_query.task_hash(qrels, item_ids)
    previous = per_query.read_previous(compare, split, task, BM25) if compare else None

    model = trained.config.preset
    _say_search(items, qrels, model)
    query_embedding = _embed_queries(trained, items.embedding, queries)
    found = {model: retrieval.top_k(query_embedding, items.embedding, metrics.DEPTH)}
    if with_bm25:
        _say_search(items, qrels, "BM25")
        index = bm25.tuned(data, item_ids, bm25.read_texts(data, item_ids))
        found[BM25] = index.search(queries, metrics.DEPTH)

    judgements = Judgements(qrels, item_ids)
    if judgements.num_unknown:
        cli.say(
            f"{judgements.num_unknown} judged items are not in the catalogue and count as not found"
        )
    figures = {name: judgements.figures(result.index) for name, result in found.items()}
    scores = level_scores.score_levels(
        query_embedding, items.embedding, qrels, item_ids
    )
    others = {BM25: figures[BM25]} if with_bm25 else {}
    if previous:
        others[PREVIOUS] = previous.figures
    result = {
        "split": split,
        "num_queries": len(queries),
        "num_items": len(item_ids),
        "averaged_over": judgements.num_queries(),
        "systems": {name: metrics.means(f) for name, f in figures.items()},
        "groups": _group_figures(
            _read_groups(data, held_out, split, qrels, trained),
            judgements,
            found,
            figures,
        ),
        "curves": {
            name: metrics.means(judgements.figures(r.index, metrics.CURVES))
            for name, r in found.items()
        },
        "level_pairs": {
            model: {
                pair: accuracy._asdict()
                for pair, accuracy in level_scores.pair_accuracies(scores).items()
            }
        },
        "comparisons": {
            name: _compare(figures[model], other) for name, other in others.items()
        },
        "task": task,
    }
    if with_bm25:
        result[BM25] = {"k1": index.k1, "b": index.b}
    if previous:
        result["previous"] = {
            "model_dir": str(previous.model_dir),
            "systems": {previous.system: previous.result["systems"][previous.system]},
        }
    return Evaluation(
        model_dir,
        trained,
        split,
        qrels,
        items,
        found,
        figures,
        scores,
        previous,
        result,
    )


def _say_search(items: Corpus, qrels: Qrels, name: str) -> None:
    cli.say(
        f"searching {len(items.item_id)} items for {len(qrels)} queries with {name}"
    )


def _embed_queries(
    trained: Trained, item_embedding: np.ndarray, queries: list[bytes]
) -> np.ndarray:
    query_embedding = corpus.embed_queries(
        trained, [query.decode("utf-8") for query in queries]
    )
    for embedding in (item_embedding, query_embedding):
        # The extremes of an array with NaN are NaN; np.isfinite(embedding) would take memory for every element.
        if not np.isfinite([embedding.min(), embedding.max()]).all():
            raise cli.CommandError(
                "expected finite embeddings from the model, got NaN or infinite values: its training diverged; train "
                "it again with a smaller learning rate"
            )
    return query_embedding


def _read_groups(
    data: Path, held_out: Path, split: str, qrels: Qrels, trained: Trained
) -> groups.Groups:
    train = trained.manifest.splits.get(schema.TRAIN, {})
    return groups.read_groups(
        data if train.get("requests", 0) > 0 else None, held_out, split, qrels
    )


def _group_figures(
    members: groups.Groups,
    judgements: Judgements,
    found: dict[str, SearchResult],
    figures: dict[str, Figures],
) -> dict[str, Any]:
    """For each group what the whole document says of all; None for one without a query."""
    by_group = {
        name: {system: metrics.of_queries(f, mask) for system, f in figures.items()}
        for name, mask in members.queries.items()
    }
    for name, item_ids in members.items.items():
        of_group = judgements.of_items(item_ids)
        by_group[name] = {
            system: of_group.figures(result.index, metrics.RECALL)
            for system, result in found.items()
        }
    return {name: _group_document(systems) for name, systems in by_group.items()}


def _group_document(systems: dict[str, Figures]) -> dict[str, Any] | None:
    averaged_over = metrics.num_known(next(iter(systems.values())))
    if not any(averaged_over.values()):
        return None
    return {
        "averaged_over": averaged_over,
        "systems": {name: metrics.means(f) for name, f in systems.items()},
    }


def _compare(ours: Figures, theirs: Figures) -> dict[str, Any]:
    return {
        segment: {name: c._asdict() for name, c in named.items()}
        for segment, named in significance.compare(ours, theirs).items()
    }
