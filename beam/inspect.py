"""Reads a sample of the logs, says what was understood, proposes a config, and warns of what usually goes wrong.

    python -m beam.inspect --events 'logs/*.csv.gz' --items products.jsonl --write-config shop.json
    python -m beam.preprocess --events 'logs/*.csv.gz' --items products.jsonl --output examples --config shop.json

Takes seconds. Columns, events and moments are guessed from their names and values; --config says what is known
already. stdout gets one JSON document: `config` (what to put into the file), `events`, `items` (what the sample holds),
`rejected` (rows that could not be used, by reason, with an example each) and `warnings`. Read the guesses.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam.config import PreprocessConfig
from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.argument_parser("beam.inspect", __doc__)
    parser.add_argument(
        "--events", nargs="+", required=True, metavar="GLOB", help="the event log"
    )
    parser.add_argument(
        "--orders",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="orders from another system, if there is one",
    )
    parser.add_argument(
        "--items", nargs="+", required=True, metavar="GLOB", help="the catalogue"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="what is known already"
    )
    parser.add_argument(
        "--rows",
        type=cli.positive_int,
        default=100_000,
        help="of each source (%(default)s)",
    )
    parser.add_argument(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="where to write the proposed config",
    )
    args = parser.parse_args(argv)

    config = PreprocessConfig.read(args.config) if args.config else PreprocessConfig()
    from beam.sampling import inspect

    found = inspect(
        args.events,
        args.orders,
        args.items,
        config,
        num_rows=args.rows,
        now=time.time(),
    )
    cli.say(told(found))
    if args.write_config:
        args.write_config.write_text(
            json.dumps(found["config"], indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
        cli.say(f"wrote {args.write_config}; read it before you trust it")
    cli.print_result(found)


def told(found: Mapping[str, Any]) -> str:
    """The findings for a person."""
    events, items = found["events"], found["items"]
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in events["kinds"].items())
    lines = [
        f"events: {events['events']:,} usable in the sample ({kinds}) from {events['from']} to {events['to']}",
        f"        {events['requests']:,} requests, {events['queries']:,} queries, {events['users']:,} users",
        f"items:  {items['items']:,} in the sample",
        f"config: {json.dumps(found['config'], ensure_ascii=False)}",
    ]
    for source, reasons in found["rejected"].items():
        for reason, told_of in reasons.items():
            lines.append(
                f"rejected {source}: {told_of['rows']:,} {reason}, such as {told_of['example']}"
            )
    lines += [f"warning: {sentence}" for sentence in found["warnings"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
