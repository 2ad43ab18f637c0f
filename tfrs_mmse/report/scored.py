"""What the model's scores say: whether they order the levels, and which grain counts for which query."""

import numpy as np
import tensorflow as tf

from tfrs_mmse import plots, text
from tfrs_mmse.evaluation import Evaluation
from tfrs_mmse.level_scores import LevelScores
from tfrs_mmse.page import Node, Section, element, number, paragraph, table
from tfrs_mmse.plots import Series
from tfrs_mmse.restore import Trained

LONG_QUERY = 6  # words; longer queries are counted as this long
_BATCH = 1024


def sections(evaluation: Evaluation) -> list[Section]:
    """Scores by level, and fusion weights by query length."""
    return [
        Section("levels", "Scores by level", _levels(evaluation)),
        Section("fusion", "Fusion weights by query length", _fusion(evaluation)),
    ]


def _levels(evaluation: Evaluation) -> list[Node]:
    pairs = evaluation.result["level_pairs"][evaluation.trained.config.preset]
    series = _score_series(evaluation.level_scores)
    rows: list[list[Node]] = [
        [
            pair.replace(">", " above "),
            number(accuracy["accuracy"]),
            str(accuracy["num_queries"]),
        ]
        for pair, accuracy in pairs.items()
    ]
    empty = [
        level.name.lower()
        for level, scores in evaluation.level_scores.items()
        if not any(map(len, scores))
    ]
    return [
        plots.distributions(
            "The model's scores of each query's own items",
            series,
            x_label="score; the line is the median",
        ),
        paragraph(f"No query here has items of the level {' or '.join(empty)}.")
        if empty
        else None,
        table(["pair of levels", "right order", "queries"], rows, class_="figures"),
        element(
            "p",
            "Every query weighs the same in a histogram. Right order: how often an item of the first level scores "
            "above one of the second within the same query, ties as half, averaged over the queries that have both; "
            "0.5 is chance. Random items are drawn from the catalogue for each query.",
            class_="note",
        ),
    ]


def _score_series(level_scores: LevelScores) -> list[Series]:
    series = []
    for level, scores in level_scores.items():
        known = [s for s in scores if len(s)]
        if known:
            weights = np.repeat([1 / len(s) for s in known], [len(s) for s in known])
            series.append(
                Series(
                    level.name.lower(),
                    plots.LEVELS[level],
                    np.concatenate(known),
                    weights,
                )
            )
    return series


def _fusion(evaluation: Evaluation) -> list[Node]:
    grains = list(evaluation.trained.model.query_tower.fusion_weights_by_grain())
    if not grains:
        return [
            paragraph(
                "This model fuses its grains before the similarity (early fusion): there are no weights to show."
            )
        ]
    queries = [query.decode("utf-8") for query in evaluation.qrels]
    lengths, weights = query_weights(evaluation.trained, queries)
    there = sorted(set(lengths.tolist()))
    by_length = np.stack([weights[lengths == n].mean(axis=0) for n in there])
    names = {n: f"{n}+" if n == LONG_QUERY else str(n) for n in there}
    # More grains than styles: those that weigh least share one.
    order = np.argsort(-weights.mean(axis=0), kind="stable")
    styles = [*plots.MANY, *[plots.OTHER] * len(grains)]
    series = [
        Series(grains[g], style, there, by_length[:, g])
        for g, style in zip(order.tolist(), styles, strict=False)
    ]
    rows: list[list[Node]] = [
        [
            names[n],
            str(int((lengths == n).sum())),
            *(number(by_length[i, g]) for g in order.tolist()),
        ]
        for i, n in enumerate(there)
    ]
    head: list[Node] = ["words", "queries"]
    return [
        plots.lines(
            "Mean weight of each grain",
            series,
            x_label="words of the query",
            y_label="weight",
            ticks=dict(names),
        ),
        table(
            [*head, *(element("bdi", grains[g]) for g in order.tolist())],
            rows,
            class_="figures",
        ),
    ]


def query_weights(
    trained: Trained, queries: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Words and fusion weights of queries.

    Args:
        trained: A model of post-fusion.
        queries: Q strings.

    Returns:
        [Q] int, the number of words, at most `LONG_QUERY`; [Q, grains] float32.
    """
    lengths, weights = [], []
    for first in range(0, len(queries), _BATCH):
        batch = tf.constant(queries[first : first + _BATCH])
        words = text.words(text.fold(batch), max_words=LONG_QUERY)
        lengths.append(words.row_lengths().numpy())
        ids = trained.featurizer.query(batch)
        weights.append(trained.model.query_tower.fusion_weights(ids).numpy())
    return np.concatenate(lengths), np.concatenate(weights)
