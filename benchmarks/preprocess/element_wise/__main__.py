"""The element-wise pipeline as a program: the same records, shards in another order, and no manifest.

    python -m benchmarks.preprocess.element_wise --events 'log/events-*.jsonl' --items log/items.jsonl --output examples

It reads JSONL only, plain or gzip, and one worker reads one file; rejected rows are counted and not kept. The rest of
its work is that of `beam.preprocess`, and `tests/benchmarks/test_preprocess.py` compares their records one by one: the
two share the rules for single rows and for text, and no code that groups, joins, counts or encodes. Options of Apache
Beam may follow.
"""

import dataclasses
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from beam.config import PreprocessConfig
from tfrs_mmse import cli

_MIN_SHARDS, _SHARD_BYTES = 8, 32 << 20  # as `beam.preprocess` has them


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pipeline, checks that no row is lost, and prints the accounting and what is in each split."""
    parser = cli.argument_parser("benchmarks.preprocess.element_wise", __doc__)
    parser.add_argument("--events", nargs="+", required=True, metavar="GLOB")
    parser.add_argument("--items", nargs="+", required=True, metavar="GLOB")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config", type=Path, metavar="FILE")
    args, beam_flags = parser.parse_known_args(argv)

    config = PreprocessConfig.read(args.config) if args.config else PreprocessConfig()
    # Beam warns about Google Cloud clients on import, wanted or not.
    logging.disable(logging.WARNING)
    from beam import accounting, reading, sources
    from beam.event_layout import event_layout
    from beam.items import item_layout
    from beam.local import make_pipeline, run
    from beam.output import split_counts
    from benchmarks.preprocess.element_wise.pipeline import build
    from tfrs_mmse import schema

    logging.disable(logging.NOTSET)
    event_files = sources.match_files(args.events, source=accounting.EVENTS)
    item_files = sources.match_files(args.items, source=accounting.ITEMS)
    num_bytes = reading.plain_size(event_files) + reading.plain_size(item_files)
    if not config.num_shards:
        num_shards = max(_MIN_SHARDS, math.ceil(num_bytes / _SHARD_BYTES))
        config = dataclasses.replace(config, num_shards=num_shards)
    path, rows = sources.read_head(list(event_files), source=accounting.EVENTS)
    events = event_layout(rows, config, path=path)
    path, rows = sources.read_head(list(item_files), source=accounting.ITEMS)
    items = item_layout(rows, config, path=path)
    pipeline = make_pipeline(beam_flags)
    build(
        pipeline,
        event_files=list(event_files),
        event_layout=events,
        item_files=list(item_files),
        item_layout=items,
        config=config,
        output=str(args.output),
    )
    namespaces = (*accounting.SOURCES, *schema.SPLITS)
    counters = accounting.read_counters(run(pipeline), namespaces)
    used = accounting.merge_orders(counters)
    accounting.check_balance(used)
    cli.print_result({"splits": split_counts(counters), "accounting": used})


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # all work is on strings
    sys.exit(main())
