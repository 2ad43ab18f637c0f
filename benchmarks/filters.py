"""How long `search_filtered` takes and how much it finds, by how many items pass, beside the search without a filter.

    python -m benchmarks.filters           # 200,000 items
    python -m benchmarks.filters --quick   # 30,000 items
    python -m benchmarks.filters --data examples --model-dir runs/mmse   # another shop, of at least two categories

Simulates a shop, preprocesses it, trains on it for one epoch, and asks held-out queries of its log, one by one and 32
at a time. Filters of a number that is drawn at random pass the same share of the items for every query. Filters of a
category go with the query (that of the best item) or against it (the one that the worst item has). `recall` is against
numpy's exact search inside the filter, so that of the exact index must be 1. A ratio is the time of the search without
a filter, by the same index, over the time inside the filter: above 1, the filter makes it faster.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine, steps
from tfrs_mmse import cli

_LIBRARIES = ("numpy", "scann", "tensorflow")
_SHARES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
_KS, _BATCHES = (10, 100), (1, 32)
_EXPORTED_K = 100
_TARGET_RECALL = 0.95
_NUM_TUNING = 500
_REPETITIONS = 3
_RANDOM = "random"  # the attribute that goes with nothing
_SETTINGS = ("epochs=1", "embedding_dim=64", "attribute_dim=16")


class Sizes(NamedTuple):
    """How much is measured: items and requests of the simulated shop, queries asked."""

    num_items: int = 200_000
    num_requests: int = 20_000
    num_queries: int = 32


FULL = Sizes()
QUICK = Sizes(num_items=30_000, num_requests=5_000)


class Case(NamedTuple):
    """A filter for each of Q queries, and the items [Q, N] that pass it."""

    clauses: list[str]
    passing: np.ndarray


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.filters", __doc__)
    parser.add_argument("--quick", action="store_true", help="30,000 items")
    parser.add_argument("--data", type=Path, help="examples, not to simulate a shop")
    parser.add_argument("--model-dir", type=Path, help="the model trained on --data")
    args = parser.parse_args(argv)
    if (args.data is None) != (args.model_dir is None):
        parser.error("--data and --model-dir go together")
    described = machine.describe(_LIBRARIES)  # before we put load on it
    sizes = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            args.data, args.model_dir = _prepare(Path(folder), sizes)
        result = measure(args.data, args.model_dir, sizes)
    cli.print_result({**result, "machine": described})


def measure(data: Path, model_dir: Path, sizes: Sizes) -> dict[str, Any]:
    """Runs the benchmark on a trained model: `ratios` and `measurements`."""
    from serving.export.agreement import Reference
    from serving.export.tuning import tune
    from serving.index.exact import ExactIndex
    from serving.index.scann import ScannIndex
    from tfrs_mmse.corpus import embed_items, embed_queries, read_queries
    from tfrs_mmse.restore import load_trained

    trained = load_trained(data, model_dir)
    corpus = embed_items(trained, data)
    if "category" not in corpus.attributes:
        raise cli.CommandError(
            "expected examples with the values of an attribute `category`: preprocess them anew with this version"
        )
    num_items = len(corpus.item_id)
    drawn = np.random.default_rng(0).random(num_items, np.float32)
    corpus = corpus._replace(attributes={**corpus.attributes, _RANDOM: drawn})
    queries = read_queries(data, "test", sizes.num_queries)
    scores = embed_queries(trained, queries) @ corpus.embedding.T
    tuning = embed_queries(trained, read_queries(data, "train", _NUM_TUNING))
    reference = Reference(tuning, corpus.embedding, corpus.item_id)
    curve = tune(reference, k=_EXPORTED_K, target_recall=_TARGET_RECALL).curve
    good = [m for m in curve if m.settings and m.recall >= _TARGET_RECALL]
    fastest = min(good, key=lambda measured: measured.ms).settings
    assert fastest is not None
    scann = ScannIndex(corpus.embedding, fastest, k=_EXPORTED_K)
    cases = _cases(corpus.attributes, scores)
    measured: dict[str, Any] = {}
    for name, index in (("exact", ExactIndex(corpus.embedding)), ("scann", scann)):
        ask = _asking(trained, corpus, index)
        for k in _KS:
            best = {case: _best(scores, cases[case].passing, k) for case in cases}
            for batch in _BATCHES:
                cli.say(f"{name}, {k} results, {batch} queries at a time")
                measured[f"{name}, k={k}, batch={batch}"] = _measure_cases(
                    ask, queries, cases, best, k=k, batch=batch
                )
    ratios = {
        f"{case}, {way}": figures["vs no filter"]
        for way, by_case in measured.items()
        for case, figures in by_case.items()
        if case != "no filter"
    }
    return {
        "ratios": ratios,
        "measurements": {
            "items": num_items,
            "dimensions": corpus.embedding.shape[1],
            "queries": len(queries),
            "scann": scann.settings.__dict__,
            **measured,
        },
    }


def _cases(attributes: dict[str, np.ndarray], scores: np.ndarray) -> dict[str, Case]:
    num_queries = len(scores)
    cases = {"no filter": Case([""] * num_queries, np.ones(scores.shape, bool))}
    for share in _SHARES:
        passing = np.broadcast_to(
            attributes[_RANDOM] <= np.float32(share), scores.shape
        )
        cases[f"{share:g} of the items"] = Case(
            [f"{_RANDOM}<={share}"] * num_queries, passing
        )
    category = attributes["category"]
    for name, row in (
        ("category of the best item", scores.argmax(axis=1)),
        ("category of the worst item", scores.argmin(axis=1)),
    ):
        clauses = [f"category={value.decode()}" for value in category[row]]
        cases[name] = Case(clauses, category[row][:, None] == category[None])
    return cases


def _best(scores: np.ndarray, passing: np.ndarray, k: int) -> np.ndarray:
    """[Q, k] the best scores inside the filters, -inf where there are fewer."""
    inside = np.where(passing, scores, -np.inf)
    return -np.sort(-np.partition(inside, -k, axis=1)[:, -k:], axis=1)


def _asking(trained: Any, corpus: Any, index: Any) -> Callable[..., Any]:
    """`search_filtered`, or, without clauses, `serving_default` for as many results."""
    import tensorflow as tf

    from serving.index.signatures import SearchModule
    from tfrs_mmse import schema

    modules = {
        k: SearchModule(
            featurizer=trained.featurizer,
            model=trained.model,
            index=index,
            item_id=corpus.item_id,
            k=k,
            attributes=corpus.attributes,
        )
        for k in _KS
    }
    filtered = modules[_KS[0]].signatures()[schema.SEARCH_FILTERED]

    def ask(queries: list[str], clauses: list[str] | None, k: int) -> Any:
        query, num = tf.constant(queries), len(queries)
        if clauses is None:
            return modules[k].search(query)
        return filtered(
            query=query,
            k=tf.fill([num], k),
            exclude=tf.fill([num, 1], ""),
            filter=tf.constant(clauses)[:, None],
        )

    return ask


def _measure_cases(
    ask: Callable[..., Any],
    queries: list[str],
    cases: dict[str, Case],
    best: dict[str, np.ndarray],
    *,
    k: int,
    batch: int,
) -> dict[str, dict[str, float]]:
    """Times of all cases side by side: the least of some repetitions, since others may use the machine, too."""
    starts = range(0, len(queries), batch)
    ways = {"serving_default": None, **{name: cases[name].clauses for name in cases}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, np.ndarray] = {}
    for repetition in range(_REPETITIONS + 1):  # the first one is not counted
        for name, clauses in ways.items():
            started = time.perf_counter()
            found = [
                ask(
                    queries[start : start + batch],
                    None if clauses is None else clauses[start : start + batch],
                    k,
                )["score"].numpy()
                for start in starts
            ]
            if repetition:
                seconds[name].append(time.perf_counter() - started)
            scores[name] = np.concatenate(found)
    of_plain = min(seconds["serving_default"])
    return {
        name: {
            "passing": round(float(cases[name].passing.sum(axis=1).mean()), 1),
            "recall": _recall(scores[name], best[name]),
            "ms_per_query": round(1e3 * min(seconds[name]) / len(queries), 3),
            "vs no filter": round(of_plain / min(seconds[name]), 3),
        }
        for name in cases
    }


def _recall(score: np.ndarray, best: np.ndarray) -> float:
    """Mean over queries of how many of the best were found; what ties with the last of them counts."""
    there = best > -np.inf
    last = np.where(there, best, np.inf).min(axis=1, keepdims=True)
    hits = (score >= last - 1e-5).sum(axis=1)
    wanted = there.sum(axis=1)
    return round(
        float(
            np.where(wanted, np.minimum(hits, wanted) / np.maximum(wanted, 1), 1).mean()
        ),
        4,
    )


def _prepare(folder: Path, sizes: Sizes) -> tuple[Path, Path]:
    """Examples and a model trained on them."""
    shop, examples, model_dir = folder / "shop", folder / "examples", folder / "run"
    log = folder / "log"
    numbers = ["--requests", sizes.num_requests, "--items", sizes.num_items]
    steps.run("beam.simulate", "--output", shop, *numbers, "--seed", 0, log=log)
    logs = ["--events", f"{shop}/events.*", "--items", f"{shop}/items.*"]
    steps.run("beam.preprocess", *logs, "--output", examples, log=log)
    settings = [flag for value in _SETTINGS for flag in ("--set", value)]
    data = ["--data", examples, "--model-dir", model_dir]
    steps.run("tfrs_mmse.train", *data, *settings, log=log)
    return examples, model_dir


if __name__ == "__main__":
    sys.exit(main())
