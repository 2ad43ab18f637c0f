"""Asks a served model for the best items of one or more queries, and prints them.

    python -m serving.client --target localhost:8500 --model shop --query "red shoes" --items items.jsonl

Prints a table for a person, or with --json one JSON document for a program. The server may be `serving.server` or
TensorFlow Serving. A server that is not reached or has too much to do is asked again a few times within --timeout;
anything else fails at once.

    --filter brand=acme --filter 'price>=10' --filter 'price<=20'

finds only what satisfies all of them. The connection is encrypted with --tls or any flag that begins with it. A token
is sent as `authorization: Bearer ...`, over an encrypted connection or to this machine itself only.
"""

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.client import SearchClient, Tls
from serving.client.titles import read_titles
from tfrs_mmse import cli


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, asks, prints."""
    parser = cli.argument_parser("serving.client", __doc__)
    parser.add_argument(
        "--target", required=True, metavar="HOST:PORT", help="where the server listens"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="the model's name on the server"
    )
    parser.add_argument(
        "--model-version",
        type=_version,
        metavar="N",
        help="a version's number or label (default: the newest)",
    )
    parser.add_argument(
        "--query", required=True, action="append", metavar="TEXT", help="repeatable"
    )
    parser.add_argument(
        "--k",
        type=cli.positive_int,
        default=10,
        help="results per query (default: %(default)s)",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="ITEM_ID",
        help="not this item; repeatable",
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="CLAUSE",
        help="only items that satisfy this; repeatable",
    )
    parser.add_argument(
        "--items",
        type=Path,
        metavar="FILE",
        help="catalogue (JSONL, CSV, Parquet) to show titles from",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead of a table"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="for the whole search (default: %(default)s)",
    )
    parser.add_argument(
        "--tls", action="store_true", help="TLS, certified by well-known authorities"
    )
    parser.add_argument(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        help="TLS, certified by the authorities in this PEM file",
    )
    parser.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="our own certificate, where the server wants one",
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="our certificate's private key"
    )
    parser.add_argument(
        "--tls-server-name",
        metavar="NAME",
        help="what the server's certificate calls it, if not HOST",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the bearer token to send"
    )
    args = parser.parse_args(argv)
    if args.items is not None and not args.items.is_file():
        raise cli.CommandError(f"--items: there is no file {args.items}")

    with SearchClient(
        args.target,
        args.model,
        version=args.model_version,
        timeout=args.timeout,
        tls=_tls(args),
        token_file=args.token_file,
    ) as client:
        reply = client.search(
            args.query, args.k, exclude=args.exclude, filters=args.filter
        )
    titles: dict[str, str] = {}
    if args.items is not None:
        found = {hit.item_id for result in reply.results for hit in result.hits}
        titles = read_titles(args.items, found)
    results = [
        {
            "query": result.query,
            "version": reply.version,
            "hits": [
                {"rank": rank, "score": hit.score, "item_id": hit.item_id}
                | ({"title": titles.get(hit.item_id)} if args.items is not None else {})
                for rank, hit in enumerate(result.hits, start=1)
            ],
        }
        | (
            {"num_matching": result.num_matching}
            if result.num_matching is not None
            else {}
        )
        for result in reply.results
    ]
    if args.json:
        cli.print_result(results)
    else:
        print("\n\n".join(table(result) for result in results))


def table(result: dict[str, Any]) -> str:
    """The hits of one query in columns, under the query.

    >>> print(table({"query": "tea", "hits": [{"rank": 1, "score": 0.5, "item_id": "i7", "title": "Green tea"}]}))
    tea
    rank   score  item_id  title
       1  0.5000  i7       Green tea
    """
    hits = result["hits"]
    if not hits:
        return f"{result['query']}\nno items"
    width = max(len("item_id"), *(_width(hit["item_id"]) for hit in hits))
    lines = [
        f"rank   score  {'item_id':<{width}}"
        + ("  title" if "title" in hits[0] else "")
    ]
    for hit in hits:
        item_id = hit["item_id"] + " " * (width - _width(hit["item_id"]))
        title = " ".join((hit.get("title") or "").split())
        lines.append(f"{hit['rank']:>4}  {hit['score']:6.4f}  {item_id}  {title}")
    return "\n".join([result["query"], *(line.rstrip() for line in lines)])


def _width(text: str) -> int:
    """Columns that a terminal uses for `text`."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _tls(args: argparse.Namespace) -> Tls | None:
    files = (args.tls_ca, args.tls_cert, args.tls_key, args.tls_server_name)
    if not args.tls and all(value is None for value in files):
        return None
    ca, certificate, key, server_name = files
    return Tls(ca=ca, certificate=certificate, key=key, server_name=server_name)


def _version(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"must be a positive number of seconds, got {text}"
        )
    return number


if __name__ == "__main__":
    sys.exit(main())
