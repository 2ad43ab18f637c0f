"""How much memory an export takes beside its vectors, and how long it takes.

    python -m benchmarks.export --data examples --model-dir runs/mmse
    python -m benchmarks.export --data examples --model-dir runs/mmse --embeddings embeddings
    python -m benchmarks.export --data examples --model-dir runs/mmse --quick   # exact search, nothing is tuned

Runs `serving.export` on a catalogue and adds up, twenty times a second, what all its processes hold. Prints
`measurements`: `peak` memory, `peak_private` (without pages of files, which the kernel takes back when it needs them),
`vectors` and `estimate` (what the export says beforehand), in bytes; `copies`, which is how often the vectors fit into
the peak, less what the estimate has for everything else; `seconds`; and what was exported.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from tfrs_mmse import cli

_INTERVAL = 0.05  # seconds
_FLOAT = 4  # bytes


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, exports, prints what was measured."""
    parser = cli.argument_parser("benchmarks.export", __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="directory that beam.preprocess wrote"
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        help="directory that tfrs_mmse.train wrote",
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        help="directory that beam.embed_items wrote; default: the catalogue of --data",
    )
    parser.add_argument(
        "--quick", action="store_true", help="exact search, which needs no tuning"
    )
    args = parser.parse_args(argv)

    from serving.export import footprint
    from tfrs_mmse import restore

    index = "exact" if args.quick else "scann"
    with tempfile.TemporaryDirectory() as scratch:
        exported, peak, private, seconds = _export(
            "--data",
            str(args.data),
            "--model-dir",
            str(args.model_dir),
            *("--output", scratch, "--index", index),
            *(("--embeddings", str(args.embeddings)) if args.embeddings else ()),
        )
        path = Path(exported["path"], "manifest.json")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    num_items, dimensions = exported["num_items"], exported["dimensions"]
    trained = restore.load_trained(args.data, args.model_dir)
    vectors = _FLOAT * num_items * dimensions
    rest = footprint.memory(num_items, 0, trained)
    cli.print_result(
        {
            "measurements": {
                "seconds": round(seconds, 1),
                "vectors": vectors,
                "peak": peak,
                "peak_private": private,
                "estimate": footprint.memory(num_items, dimensions, trained),
                "copies": round((peak - rest) / vectors, 2),
                "copies_private": round((private - rest) / vectors, 2),
                "num_items": num_items,
                "dimensions": dimensions,
                "recall": exported["recall"],
                "index": manifest["index"],
            },
            "machine": machine.describe((*machine.LIBRARIES, "scann")),
        }
    )


def _export(*flags: str) -> tuple[dict[str, Any], int, int, float]:
    """What the export printed, the peak of its processes, the same without pages of files, and the seconds."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.export", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = private = 0
    while process.poll() is None:
        sizes = [_memory(pid) for pid in _tree(process.pid)]
        peak = max(peak, sum(rss for rss, _ in sizes))
        private = max(private, sum(anonymous for _, anonymous in sizes))
        time.sleep(_INTERVAL)
    assert process.stdout is not None
    out = process.stdout.read()
    if process.returncode:
        raise cli.CommandError("the export failed, its message is above")
    return json.loads(out), peak, private, time.monotonic() - start


def _tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        for task in _read(f"/proc/{parent}/task/{parent}/children").split():
            found.append(int(task))
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Bytes that a process holds, and those of them that are no pages of files."""
    sizes = {"VmRSS": 0, "RssAnon": 0}
    for line in _read(f"/proc/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) * 1024
    return sizes["VmRSS"], sizes["RssAnon"]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return ""


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
