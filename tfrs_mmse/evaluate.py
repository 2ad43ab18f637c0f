"""Evaluates a trained model by retrieving from the whole catalogue for every held-out query, with BM25 beside it.

    python -m tfrs_mmse.evaluate --data examples --model-dir runs/mmse --split test --run-output /tmp/mmse
    python -m tfrs_mmse.evaluate --data examples --model-dir runs/mmse --compare runs/two_tower

The unit is the distinct folded query of the split. Its relevant items are the union over its requests, each at the
deepest level it reached. The result, one JSON document on stdout and in `MODEL_DIR/evaluation/SPLIT.json`:

    {"split": "test", "num_queries": 1000, "num_items": 30000,
     "averaged_over": {"clicked": 900, "ordered": 200, "all": 1000},
     "systems": {"mmse": {"clicked": {"recall@10": 0.5, "recall@100": ..., "recall@1000": ...},
                          "ordered": {"recall@10": ...}, "all": {"ndcg@10": ...}},
                 "bm25": {...}},
     "bm25": {"k1": 0.4, "b": 0.75},
     "groups": {"unseen": {"averaged_over": {...}, "systems": {...}}, "seen": null, ...},
     "curves": {"mmse": {"clicked": {"recall@1": ..., "recall@2": ..., ...}, "ordered": {...}}, "bm25": {...}},
     "level_pairs": {"mmse": {"ordered>clicked": {"accuracy": 0.6, "num_queries": 150}, ...}},
     "comparisons": {"bm25": {"clicked": {"recall@10": {"difference": 0.02, "p_value": 0.003, "significant": true,
                                                        "better": 250, "worse": 180, "num_queries": 900}, ...}, ...},
                     "previous": {...}},
     "previous": {"model_dir": "runs/two_tower", "systems": {"two_tower": {...}}},
     "task": "SHA-256 of queries, levels and items"}

`clicked` is recall of the items that were clicked or ordered, `ordered` that of the ordered ones, `all` the NDCG with
levels as gains (unclicked 1, clicked 2, ordered 3). A mean is over the queries that have a relevant item in that
segment, `averaged_over` says how many; with none it is null.

`bm25` are the parameters of the baseline, tuned on queries of the train split.

`groups` repeats the figures for some of the queries (`seen` and `unseen` in training; `head`, `torso` and `tail` by
traffic) and the recall of some of the items (`new_items`, `items_without_clicks`, `items_with_clicks`); a group that
nothing is in is null. What exactly they are stands in `tfrs_mmse/groups.py`. `level_pairs` says how often the model
scores an item of the higher level above one of the lower. `comparisons` are of the model with BM25 and, given
--compare, with the evaluation that lies in that model directory, by a paired t-test over the queries.

Beside the JSON stand SPLIT.parquet, the figures of each query, and report.html (report-train.html of the train split),
which shows all this in one file for people, with the training, the best and worst queries and a map of the items.

`--run-output PREFIX` writes what others need to check the figures, in the formats of TREC: PREFIX.run,
PREFIX.bm25.run, PREFIX.qrels and PREFIX.queries.tsv. `ir_measures PREFIX.qrels PREFIX.run nDCG@10 'R(rel=2)@100'`
reads them; its recall counts queries without a relevant item as 0, ours leaves them out, so
ours = theirs * num_queries / averaged_over.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrs_mmse import cli, schema

if TYPE_CHECKING:
    from tfrs_mmse.evaluation import Evaluation


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, evaluates, writes, prints the result."""
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
        "--held-out",
        type=Path,
        metavar="DIR",
        help="examples whose split is judged, if not those of --data: a later log, for a model from before it",
    )
    parser.add_argument(
        "--run-output",
        type=Path,
        metavar="PREFIX",
        help="also write TREC run and qrels files",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="another model directory, with an evaluation of the same split",
    )
    parser.add_argument(
        "--no-bm25", dest="bm25", action="store_false", help="leave the baseline out"
    )
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="write no HTML report"
    )
    args = parser.parse_args(argv)

    # Imports TensorFlow and ranx, which --help need not wait for.
    from tfrs_mmse import evaluation

    if args.run_output is not None:
        # Now, so that a place that cannot be written fails before the long work.
        args.run_output.parent.mkdir(parents=True, exist_ok=True)
    outcome = evaluation.evaluate(
        args.data,
        args.model_dir,
        args.split,
        held_out=args.held_out,
        with_bm25=args.bm25,
        compare=args.compare,
    )
    if args.run_output is not None:
        _write_run(args.run_output, outcome)
    _write_evaluation(args.model_dir / schema.EVALUATION, outcome)
    if args.report:
        from tfrs_mmse import report

        name = (
            "report.html" if args.split == schema.TEST else f"report-{args.split}.html"
        )
        path = args.model_dir / schema.EVALUATION / name
        report.write(path, outcome, args.data)
        cli.say(f"report for people: {path}")
    cli.print_result(outcome.result)


def _write_evaluation(folder: Path, outcome: "Evaluation") -> None:
    from tfrs_mmse import per_query

    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(outcome.result, indent=2) + "\n"
    (folder / f"{outcome.split}.json").write_text(document, encoding="utf-8")
    path = folder / f"{outcome.split}.parquet"
    per_query.write(path, list(outcome.qrels), outcome.figures)


def _write_run(prefix: Path, outcome: "Evaluation") -> None:
    from tfrs_mmse import evaluation, trec

    queries, item_ids = list(outcome.qrels), outcome.items.item_id.tolist()
    trec.write_qrels(_with_suffix(prefix, "qrels"), outcome.qrels)
    trec.write_queries(_with_suffix(prefix, "queries.tsv"), queries)
    for name, result in outcome.found.items():
        suffix = "bm25.run" if name == evaluation.BM25 else "run"
        trec.write_run(
            _with_suffix(prefix, suffix), queries, item_ids, result, tag=name
        )


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{suffix}")


if __name__ == "__main__":
    sys.exit(main())
