"""Exports a trained model and its catalogue as a SavedModel that answers query strings.

    python -m serving.export --data examples --model-dir runs/mmse --output models/shop --index scann

`--index exact` scores every item and runs on any TensorFlow Serving. `--index scann`, the default, is chosen by
measuring: ScaNN is built with and without a tree, as the size of the catalogue has it, with fine and coarse codes, and
asked training queries of the log with few and with many leaves and candidates. Recall is that of the k results against
exact search; speed is measured too, half of it for queries that come alone and half for batches of 32. The fastest that
reaches `--target-recall` is taken. Exact search competes: where it is no slower by more than a tenth, the version is an
exact one and needs no ScaNN. Otherwise it runs on `serving.server`, and on a TensorFlow Serving that was built with
ScaNN's operations. Export where the version will be served, or on a machine like that.

The catalogue is that of `--data`, or, with `--embeddings`, what `beam.embed_items` embedded: that of another day, or a
much larger one. Then `--data` only gives the queries to measure with.

Writes OUTPUT/VERSION, one higher than the newest there: the SavedModel, manifest.json (what it is, why this index,
every setting that was measured, and the recall of the index against exact search on held-out queries), index.svg (the
settings as a plot of recall over time) and warm-up requests. Before a version appears under its number, a fresh process
loads it, and its answers are compared with the training model's; if they disagree, or the index finds less than
`--min-recall` on the held-out queries, nothing is published and the older versions stay as they are.

Memory: at most twice the item vectors (4 bytes a number), 700 bytes an item for ids and titles, twice the model, and
1.6 GB. Disk meanwhile: three times the vectors, under OUTPUT. Both are said before the work starts, and an export that
cannot fit is refused.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.export.config import ExportConfig
from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, exports, prints where to."""
    parser = cli.argument_parser("serving.export", __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="directory that beam.preprocess wrote"
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        help="directory that beam.embed_items wrote with this model; default: embed the catalogue of --data",
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        help="directory that tfrs_mmse.train wrote",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="base path of the versions; made if it is not there",
    )
    parser.add_argument(
        "--index",
        choices=("scann", "exact"),
        default="scann",
        help="scann: the fastest of ScaNN and exact search (default: %(default)s)",
    )
    parser.add_argument(
        "--k",
        type=cli.positive_int,
        default=100,
        help="results per query (default: %(default)s)",
    )
    parser.add_argument(
        "--min-recall",
        type=_share,
        default=0.9,
        help="fail below this recall on held-out queries (default: %(default)s)",
    )
    parser.add_argument(
        "--target-recall",
        type=_share,
        default=0.95,
        help="recall@k on training queries that the index must reach (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    # Imports TensorFlow, which --help need not wait for.
    from serving.export.exporter import export

    config = ExportConfig(
        index=args.index,
        k=args.k,
        min_recall=args.min_recall,
        target_recall=args.target_recall,
    )
    cli.print_result(
        export(
            args.data, args.model_dir, args.output, config, embeddings=args.embeddings
        )
    )


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
