"""The server's speed: our index beside others in process, and the server beside a thread pool over gRPC.

    python -m benchmarks.serve                    # 100,000 and 1,000,000 items of 256 dimensions; about an hour
    python -m benchmarks.serve --quick            # each load once, for 8 seconds instead of three times 20
    python -m benchmarks.serve --items 100000     # one catalogue

Simulates a shop, trains on it, and exports its catalogue, and one of a million items of the same kind; both stay in
`benchmarks/work/serve`. FAISS and hnswlib come with `pip install "tfrs-mmse[ann]"`, the load with nghttp2's `h2load`.

In process: the index that the export chose, in a SavedModel, against ScaNN's own Python API with the same settings,
FAISS and hnswlib with the least work that finds as much (recall@100 against exact search, held-out queries of the log);
one core, batches of 64. Ratios "vs pybind", "vs faiss", "vs hnswlib" are queries a second, ours over theirs, for the
largest catalogue.

Over gRPC on loopback, the clients on the same cores: p50, p99 and requests a second with 1, 4, 16 and 64 clients, and
at constant rates, one of them twice what can be answered; ours and a plain thread pool around the same SavedModel in
turns. The ratio "vs thread pool" is
requests a second with 64 clients, for the largest catalogue.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.serve import in_process, load, over_grpc, shop
from tfrs_mmse import cli, schema

K = 100
_SIZES = (100_000, 1_000_000)
_LIBRARIES = ("faiss-cpu", "grpcio", "hnswlib", "scann", "tensorflow")


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints ratios, measurements and machine."""
    parser = cli.argument_parser("benchmarks.serve", __doc__)
    parser.add_argument("--quick", action="store_true", help="each load once, shortly")
    parser.add_argument(
        "--items",
        type=cli.positive_int,
        action="append",
        metavar="N",
        help="size of the catalogue; repeatable (default: 100000 and 1000000)",
    )
    args = parser.parse_args(argv)
    load.require()
    described = machine.describe(_LIBRARIES)
    measured: dict[str, Any] = {}
    made = shop.make_shop()
    for num_items in sorted(args.items or _SIZES):
        measured[f"{num_items} items"] = found = _measure(made, num_items, args.quick)
        cli.say(json.dumps(found))
    ratios = found["in process"]["ratios"]
    ratios["vs thread pool"] = found["over gRPC"]["vs thread pool"]
    cli.print_result({"ratios": ratios, "measurements": measured, "machine": described})


def _measure(made: shop.Shop, num_items: int, quick: bool) -> dict[str, Any]:
    exported = shop.make_export(made, num_items, "scann", K)
    version_dir = Path(exported["path"])
    manifest = json.loads((version_dir / schema.MANIFEST).read_text())
    item, query = shop.read_vectors(made, num_items)
    settings = shop.scann_settings(manifest)
    return {
        "export": {key: exported[key] for key in ("index", "recall", "dimensions")},
        "in process": in_process.measure(item, query, settings, K),
        "over gRPC": over_grpc.measure(
            version_dir,
            made.queries,
            seconds=8.0 if quick else 20.0,
            rounds=1 if quick else 3,
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
