"""Evaluates a trained model by retrieving from the whole catalogue for every held-out query, with BM25 beside it.

    python -m tfrs_mmse.evaluate --data examples --model-dir runs/mmse --split test --run-output /tmp/mmse

The unit is the distinct folded query of the split. Its relevant items are the union over its requests, each at the
deepest level it reached. The result, one JSON document on stdout and in `MODEL_DIR/evaluation/SPLIT.json`:

    {"split": "test", "num_queries": 1000, "num_items": 30000,
     "averaged_over": {"clicked": 900, "ordered": 200, "all": 1000},
     "systems": {"mmse": {"clicked": {"recall@10": 0.5, "recall@100": ..., "recall@1000": ...},
                          "ordered": {"recall@10": ...}, "all": {"ndcg@10": ...}},
                 "bm25": {...}}}

`clicked` is recall of the items that were clicked or ordered, `ordered` that of the ordered ones, `all` the NDCG with
levels as gains (unclicked 1, clicked 2, ordered 3). A mean is over the queries that have a relevant item in that
segment, `averaged_over` says how many; with none it is null.

`--run-output PREFIX` writes what others need to check the figures, in the formats of TREC: PREFIX.run,
PREFIX.bm25.run, PREFIX.qrels and PREFIX.queries.tsv. `ir_measures PREFIX.qrels PREFIX.run nDCG@10 'R(rel=2)@100'`
reads them; its recall counts queries without a relevant item as 0, ours leaves them out, so
ours = theirs * num_queries / averaged_over.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrs_mmse import cli, schema

if TYPE_CHECKING:
    import numpy as np

    from tfrs_mmse.restore import Trained
    from tfrs_mmse.retrieval import SearchResult

BM25 = "bm25"


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, evaluates, prints the result."""
    parser = cli.argument_parser("tfrs_mmse.evaluate", __doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="examples the model was trained on",
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory of the trained model",
    )
    parser.add_argument(
        "--split",
        choices=schema.SPLITS,
        default=schema.TEST,
        help="default: %(default)s",
    )
    parser.add_argument(
        "--run-output",
        type=Path,
        metavar="PREFIX",
        help="also write TREC run and qrels files",
    )
    parser.add_argument(
        "--no-bm25", dest="bm25", action="store_false", help="leave the baseline out"
    )
    args = parser.parse_args(argv)

    result = evaluate(
        args.data,
        args.model_dir,
        args.split,
        run_output=args.run_output,
        bm25=args.bm25,
    )
    report = args.model_dir / schema.EVALUATION / f"{args.split}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    cli.print_result(result)


def evaluate(
    data: Path,
    model_dir: Path,
    split: str,
    *,
    run_output: Path | None = None,
    bm25: bool = True,
) -> dict[str, Any]:
    """Retrieves for every query of a split and scores what was found.

    Args:
        data: Directory of examples.
        model_dir: Directory of a model that was trained on them.
        split: One of `schema.SPLITS`.
        run_output: Where to write TREC files, as the beginning of their paths; None writes none.
        bm25: Whether to evaluate the baseline too.

    Returns:
        The document that the module describes.

    Raises:
        CommandError: data or model are missing, broken, or do not fit together, or nothing in the split is relevant.
    """
    from tfrs_mmse import corpus, metrics, relevance, restore, trec

    trained = restore.load_trained(data, model_dir)
    qrels = relevance.read_qrels(data, split)
    queries = list(qrels)
    if (
        run_output is not None
    ):  # now, so that a path that cannot be written fails before the long work
        run_output.parent.mkdir(parents=True, exist_ok=True)
        trec.write_qrels(_with_suffix(run_output, "qrels"), qrels)
        trec.write_queries(_with_suffix(run_output, "queries.tsv"), queries)

    items = corpus.embed_items(trained, data)
    item_ids = items.item_id.tolist()
    cli.say(
        f"searching {len(item_ids)} items for {len(queries)} queries with {trained.config.preset}"
    )
    found = {trained.config.preset: _search_model(trained, items.embedding, queries)}
    if bm25:
        cli.say(f"searching {len(item_ids)} items for {len(queries)} queries with BM25")
        found[BM25] = _search_bm25(data, queries, item_ids)

    judgements = metrics.Judgements(qrels, item_ids)
    if judgements.num_unknown:
        cli.say(
            f"{judgements.num_unknown} judged items are not in the catalogue and count as not found"
        )
    if run_output is not None:
        for name, result in found.items():
            path = _with_suffix(run_output, "bm25.run" if name == BM25 else "run")
            trec.write_run(path, queries, item_ids, result, tag=name)
    return {
        "split": split,
        "num_queries": len(queries),
        "num_items": len(item_ids),
        "averaged_over": judgements.num_queries(),
        "systems": {
            name: metrics.means(judgements.figures(result.index))
            for name, result in found.items()
        },
    }


def _search_model(
    trained: "Trained", item_embedding: "np.ndarray", queries: list[bytes]
) -> "SearchResult":
    import numpy as np

    from tfrs_mmse import corpus, metrics, retrieval

    query_embedding = corpus.embed_queries(
        trained, [query.decode("utf-8") for query in queries]
    )
    if not (np.isfinite(item_embedding).all() and np.isfinite(query_embedding).all()):
        raise cli.CommandError(
            "expected finite embeddings from the model, got NaN or infinite values: its training diverged; train it "
            "again with a smaller learning rate"
        )
    return retrieval.top_k(query_embedding, item_embedding, metrics.DEPTH)


def _search_bm25(
    data: Path, queries: list[bytes], item_ids: list[bytes]
) -> "SearchResult":
    from tfrs_mmse import bm25, metrics

    return bm25.BM25(bm25.read_texts(data, item_ids)).search(queries, metrics.DEPTH)


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{suffix}")


if __name__ == "__main__":
    sys.exit(main())
