"""Turns search logs and a catalogue into TFRecords, vocabularies and a manifest for `tfrs_mmse.train`.

    python -m beam.preprocess --events 'logs/events-*.jsonl.gz' --items catalogue.csv --output examples

Events are impressions, clicks and orders; items are the catalogue. Both are JSONL, CSV, TSV or Parquet, plain or gzip,
on any file system that Beam reads. Rows that cannot be used are kept in `rejected-*` with their place and the reason;
every row is accounted for. Orders that come from another system go in by --orders: each is given to the user's latest
click on its item. `stats.html` shows what the logs look like, and what has changed since the run before.
Without --events the output holds the catalogue alone. Any option of Apache Beam may follow, `--runner` first of all.
The same input gives the same bytes.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from beam.config import SPLIT_BY, PreprocessConfig
from beam.flags import check_beam_flags
from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.argument_parser("beam.preprocess", __doc__)
    parser.add_argument(
        "--events",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="the event log; none: catalogue only",
    )
    parser.add_argument(
        "--orders",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="orders from another system, with columns of their own: timestamp, item_id and user_id",
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
        "--split-by",
        choices=SPLIT_BY,
        help="the test split: the last part of the period, or a share of the queries",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON with fields of beam.config.PreprocessConfig",
    )
    parser.add_argument(
        "--max-rejected",
        type=float,
        metavar="SHARE",
        help="fail when a larger share of the events or of the items is rejected (0.01)",
    )
    parser.add_argument(
        "--redact",
        action="store_true",
        help="keep places and reasons of rejected events, not the events: they hold queries and user ids",
    )
    parser.add_argument(
        "--compare-to",
        default="",
        metavar="DIR",
        help="an earlier run, to say what has changed (default: the one in --output, if any)",
    )
    args, beam_flags = parser.parse_known_args(argv)

    config = PreprocessConfig.read(args.config) if args.config else PreprocessConfig()
    if args.split_by:
        config = dataclasses.replace(config, split_by=args.split_by)
    if args.max_rejected is not None:
        config = dataclasses.replace(config, max_rejected=args.max_rejected)
    check_beam_flags(parser, beam_flags)
    from beam.job import preprocess

    summary = preprocess(
        args.events,
        args.items,
        args.output,
        config,
        beam_flags,
        orders=args.orders,
        redact=args.redact,
        compare_to=args.compare_to,
    )
    cli.print_result(summary)


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        "-1"  # all work is on strings; TensorFlow would only take the GPU's memory
    )
    sys.exit(main())
