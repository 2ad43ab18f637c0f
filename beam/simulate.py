"""Simulates a shop's search log, for trying out and for measuring what clicks and orders are worth.

    python -m beam.simulate --output data/shop --requests 40000 --items 10000 --seed 0

writes into the directory:

- `items.jsonl.gz`: the catalogue;
- `events.jsonl.gz`: impressions, clicks and orders of 28 days in the order of time; about every fifth order comes from
  a later checkout and names no request;
- `truth.parquet`: the probabilities from which clicks and orders were drawn, for evaluation only: `query`, `item_id`,
  `click_utility` (clicked if examined) and `order_utility` (ordered if examined).

The same arguments give the same bytes. Users look from the top down, click what looks relevant and attractive, and
order what is good and fits; so the best ranking for clicks is not the best one for orders. The model of behaviour
with its equations and sources is the documentation of `beam.shop.behaviour`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrs_mmse import cli

if TYPE_CHECKING:
    from beam.shop.simulation import Events


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.argument_parser("beam.simulate", __doc__)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where to write; made if missing",
    )
    parser.add_argument(
        "--requests",
        type=cli.positive_int,
        default=40_000,
        metavar="N",
        help="search requests (%(default)s)",
    )
    parser.add_argument(
        "--items",
        type=cli.positive_int,
        default=10_000,
        metavar="N",
        help="items to sell (%(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=_not_negative,
        default=0,
        metavar="S",
        help="another seed, another shop (0)",
    )
    args = parser.parse_args(argv)
    if args.output.is_file():
        raise cli.CommandError(
            f"--output {args.output} is a file, expected a directory or a new name"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    summary = write_shop(
        args.output, num_requests=args.requests, num_items=args.items, seed=args.seed
    )
    cli.print_result(summary)


def write_shop(
    output: Path, *, num_requests: int, num_items: int, seed: int
) -> dict[str, Any]:
    """Simulates a shop and writes its three files into a directory that exists.

    Returns:
        What is in them, for people and programs.

    Raises:
        OSError: a file cannot be written.
    """
    import numpy as np
    from tqdm import tqdm

    from beam.shop import files, truth
    from beam.shop.simulation import Kind, open_shop, simulate

    cli.say(f"Opening a shop of {num_items} items for {num_requests} requests")
    shop = open_shop(num_requests=num_requests, num_items=num_items, seed=seed)
    paths = [
        output / name for name in ("items.jsonl.gz", "events.jsonl.gz", "truth.parquet")
    ]
    items_path, events_path, truth_path = paths
    files.write_items(items_path, shop.catalogue)

    counts = dict.fromkeys((kind.name.lower() for kind in Kind), 0)
    orders_without_request = 0
    is_clicked = np.zeros(num_requests, bool)

    def counted(
        chunks: "Iterator[Events]", progress: "tqdm[Any]"
    ) -> "Iterator[Events]":
        nonlocal orders_without_request
        for events in chunks:
            for kind in Kind:
                counts[kind.name.lower()] += int(np.count_nonzero(events.kind == kind))
            orders_without_request += int(np.count_nonzero(events.request < 0))
            is_clicked[events.request[events.kind == Kind.CLICK]] = True
            progress.update(len(events))
            yield events

    with tqdm(unit=" events", unit_scale=True, desc="Writing events") as progress:
        chunks = counted(simulate(shop), progress)
        files.write_events(
            events_path, chunks, catalogue=shop.catalogue, queries=shop.queries
        )
    cli.say("Writing the true utilities")
    truth_rows = truth.write_truth(truth_path, shop)
    return {
        "items": num_items,
        "requests": num_requests,
        "requests_with_click": int(is_clicked.sum()),
        "events": counts,
        "orders_without_request": orders_without_request,
        "distinct_queries": len(np.unique(shop.requests.query)),
        "users": len(np.unique(shop.requests.user)),
        "truth_rows": truth_rows,
        "seed": seed,
        "files": {path.name: path.stat().st_size for path in paths},
    }


def _not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 0, got {text!r}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
