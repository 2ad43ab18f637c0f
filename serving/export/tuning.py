"""Chooses an index by measuring: every setting's recall and speed on queries of the log, exact search among them."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.export.agreement import Reference, exact_scores, recall
from serving.export.curve import BATCH, Choice, Measured, choose
from serving.export.vector_file import forget
from serving.index.exact import ExactIndex
from serving.index.found import Index
from serving.index.item_vectors import item_variable
from serving.index.scann import ScannIndex
from serving.index.scann_build import MIN_ITEMS, ScannSettings, build, num_leaves
from tfrs_mmse.cli import say

# Looking at every item's code costs time that grows with the catalogue, a tree costs recall: below the one size no tree
# is tried, above the other nothing else. Between them measurement decides.
_TREE_FROM = 50_000
_FLAT_UP_TO = 200_000
_BLOCKS = (2, 4)  # dimensions per block that are tried
_REORDER = (1, 1.5, 2, 3, 4, 8)  # candidates for each result
_LEAF_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Once so much is found, more candidates are not tried, unless the target is higher.
_ENOUGH = 0.995
_GAIN = 0.002  # of recall by more leaves that is worth trying still more
_NUM_ALONE = 32  # queries timed one by one
_NUM_BATCHES = 4  # batches timed
_ROUNDS = 3  # the fastest counts: the others were disturbed


class Trial(NamedTuple):
    """An index under some settings, traced and not yet timed.

    Attributes:
        settings: Of ScaNN; None for exact search.
        recall: Recall@k on the tuning queries.
        search: [B, D] query embeddings -> [B, k] scores.
    """

    settings: ScannSettings | None
    recall: float
    search: Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Tried:
    """An index and what was tried with it.

    Attributes:
        index: It copies the vectors when it is searched; released, it does no longer.
        trials: Not empty.
    """

    index: Index
    trials: list[Trial]


class Tuned(NamedTuple):
    """The outcome.

    Attributes:
        index: The index with the chosen settings.
        choice: What was chosen, and why.
        curve: Everything that was measured.
    """

    index: ExactIndex | ScannIndex
    choice: Choice
    curve: list[Measured]


def tune(reference: Reference, *, k: int, target_recall: float) -> Tuned:
    """Builds the indexes that may be the fastest, measures them, and keeps the fastest that reaches the target.

    Args:
        reference: Embeddings of queries to measure with, and of the items.
        k: Results per query.
        target_recall: Recall@k against exact search to reach.

    Raises:
        CommandError: ScaNN is not there or failed.
    """
    exact = exact_scores(reference, k)
    built = []
    for settings in builds(len(reference.item), k):
        start = time.monotonic()
        forget(reference.item)
        built.append((settings, build(reference.item, settings)))
        took = time.monotonic() - start
        say(f"built ScaNN with {_describe(settings)} in {took:.0f} s")
    embedding = item_variable(reference.item)
    forget(reference.item)
    indexes = [ScannIndex(embedding, s, k=k, parts=parts) for s, parts in built]
    say("measures the recall of exact search and of ScaNN with more and more work")
    all_scored = ExactIndex(embedding)
    trial = _trial(all_scored, None, reference.query, exact, k)
    tried = [Tried(all_scored, [trial])]
    for index in indexes:
        tried.append(_try_scann(index, reference.query, exact, k, target_recall))
    trials = [trial for each in tried for trial in each.trials]
    say(f"times exact search and {len(trials) - 1} settings of ScaNN")
    curve = [
        Measured(settings=t.settings, recall=t.recall, alone_ms=alone, batch_ms=batch)
        for t, (alone, batch) in zip(
            trials, time_trials(tried, reference.query), strict=True
        )
    ]
    choice = choose(curve, target_recall)
    say(f"chose {choice.measured.kind}: {choice.reason}")
    if not (chosen := choice.measured.settings):
        return Tuned(all_scored, choice, curve)
    index = next(i for i in indexes if _same_build(i.settings, chosen))
    index.settings = chosen
    return Tuned(index, choice, curve)


def builds(num_items: int, k: int) -> list[ScannSettings]:
    """What is built for a catalogue of this size; of what matters at query time, each has the least."""
    trees = []
    if num_items <= _FLAT_UP_TO:
        trees.append(0)
    if num_items >= _TREE_FROM:
        trees.append(num_leaves(num_items))
    if num_items < MIN_ITEMS:
        return []
    return [
        ScannSettings(
            num_leaves=leaves,
            leaves_to_search=min(leaves, 1),
            num_reorder=min(num_items, k),
            dimensions_per_block=block,
        )
        for leaves in trees
        for block in _BLOCKS
    ]


def candidates(
    settings: ScannSettings, num_items: int, k: int
) -> Iterator[list[ScannSettings]]:
    """Settings for query time: for each number of leaves, from few to all, candidates from few to many."""
    shares = _LEAF_SHARES if settings.num_leaves else (1.0,)
    for leaves in sorted({-int(-settings.num_leaves * share // 1) for share in shares}):
        yield [
            dataclasses.replace(settings, leaves_to_search=leaves, num_reorder=reorder)
            for reorder in sorted({min(num_items, int(k * r)) for r in _REORDER})
        ]


def time_trials(tried: Sequence[Tried], query: np.ndarray) -> list[tuple[float, float]]:
    """Milliseconds per query of each trial, for queries that come alone and for queries that come in batches.

    All are timed in turns, so that what else the machine does disturbs all alike; and index after index, so that no two
    hold copies of the vectors at a time.

    Args:
        tried: What is timed.
        query: [Q, D] float32, Q > 0; taken again from the beginning where they are too few.
    """
    query = np.resize(query, (_NUM_BATCHES * BATCH, query.shape[1]))
    alone = [tf.constant(query[i : i + 1]) for i in range(_NUM_ALONE)]
    batches = [tf.constant(query[i : i + BATCH]) for i in range(0, len(query), BATCH)]
    rounds = []
    for _ in range(_ROUNDS):
        times = []
        for each in tried:
            each.trials[0].search(alone[0])  # puts the searcher together
            for trial in each.trials:
                times.append((_time(trial.search, alone), _time(trial.search, batches)))
            each.index.release()
        rounds.append(times)
    return [(float(a), float(b)) for a, b in np.min(rounds, axis=0)]


def _try_scann(
    index: ScannIndex, query: np.ndarray, exact: np.ndarray, k: int, target: float
) -> Tried:
    trials: list[Trial] = []
    enough, found = max(target, _ENOUGH), 0.0
    for more_reordered in candidates(index.settings, index.embedding.shape[0], k):
        group: list[Trial] = []
        for settings in more_reordered:
            index.settings = settings
            group.append(_trial(index, settings, query, exact, k))
            if group[-1].recall >= enough:
                break
        trials += group
        # More leaves cost more: no use if these reach the target with the fewest candidates, or find no more.
        before, found = found, group[-1].recall
        if group[0].recall >= target or target <= found < before + _GAIN:
            break
    index.release()
    return Tried(index, trials)


def _trial(
    index: Index,
    settings: ScannSettings | None,
    query: np.ndarray,
    exact: np.ndarray,
    k: int,
) -> Trial:
    # A graph, as in a SavedModel, with the settings that the index has now.
    search = tf.function(
        lambda q: index.search(q, k).score,
        input_signature=[tf.TensorSpec([None, query.shape[1]])],
        autograph=False,
    ).get_concrete_function()
    score = [
        search(tf.constant(query[i : i + BATCH])) for i in range(0, len(query), BATCH)
    ]
    return Trial(settings, recall(np.concatenate(score), exact), search)


def _time(search: Callable[[tf.Tensor], tf.Tensor], queries: list[tf.Tensor]) -> float:
    """Milliseconds for each query."""
    start = time.perf_counter()
    for query in queries:
        search(query).numpy()
    return 1000 * (time.perf_counter() - start) / sum(len(query) for query in queries)


def _same_build(one: ScannSettings, other: ScannSettings) -> bool:
    at_query_time = {"leaves_to_search": 0, "num_reorder": 0}
    return dataclasses.replace(one, **at_query_time) == dataclasses.replace(
        other, **at_query_time
    )


def _describe(settings: ScannSettings) -> str:
    tree = f"{settings.num_leaves} leaves" if settings.num_leaves else "no tree"
    return f"{tree} and {settings.dimensions_per_block} dimensions a block"
