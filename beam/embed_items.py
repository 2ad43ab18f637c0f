"""Embeds a catalogue with a trained model, for `serving.export --embeddings`.

    python -m beam.embed_items --model-dir runs/mmse --items 'catalogue-*.jsonl.gz' --output embeddings

Runs the model's item tower over a catalogue of any size, also one that the model's examples never held. The catalogue
is JSONL, CSV, TSV or Parquet, plain or gzip, on any file system that Beam reads, and its rows are judged as
`beam.preprocess` judges them: rows that cannot be used are kept in `rejected-*` with their place and the reason, of
several rows of an item the latest counts, and every row is accounted for. Columns are called as they were in the
model's examples; where they are not, --config says how.

Writes Parquet shards with `item_id`, `title` and `embedding`, and at last manifest.json: which model and features they
belong to. Any option of Apache Beam may follow. The same input gives the same bytes.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from beam.config import PreprocessConfig
from beam.flags import check_beam_flags
from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, embeds, prints the summary."""
    parser = cli.argument_parser("beam.embed_items", __doc__)
    parser.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory that tfrs_mmse.train wrote",
    )
    parser.add_argument(
        "--items", nargs="+", required=True, metavar="GLOB", help="the catalogue"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="a new directory, or that of an older run",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON with fields of beam.config.PreprocessConfig, for a catalogue whose columns or moments are written "
        "differently; default: as the model's examples were made",
    )
    parser.add_argument(
        "--max-rejected",
        type=float,
        metavar="SHARE",
        help="fail when a larger share of the rows is rejected (the config's, usually 0.01)",
    )
    args, beam_flags = parser.parse_known_args(argv)
    config = PreprocessConfig.read(args.config) if args.config else None
    check_beam_flags(parser, beam_flags)
    from beam.embedding import embed_catalogue

    cli.print_result(
        embed_catalogue(
            args.model_dir,
            args.items,
            args.output,
            config,
            beam_flags,
            max_rejected=args.max_rejected,
        )
    )


if __name__ == "__main__":
    # Looking up tokens takes most of the time, and is done on the CPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    sys.exit(main())
