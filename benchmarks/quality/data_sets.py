"""The data sets of the table: each is made once, and used by every cell."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import steps
from tfrs_mmse import cli, schema

SPLITS = {"elo7": ("query",), "simulator": ("time", "query")}
"""By data set: the ways in which its held-out part is chosen."""

ELO7_SOURCE = "python convert.py"  # comes with the data


class Sources(NamedTuple):
    """What the data sets are made from.

    Attributes:
        elo7: Folder with the Elo7 logs and their `convert.py`, or with examples made of them.
        requests: Simulated searches.
        items: Simulated catalogue.
    """

    elo7: Path
    requests: int
    items: int


class DataSet(NamedTuple):
    """Examples with a held-out part.

    Attributes:
        data: `elo7` or `simulator`.
        split: `time` (the last part of the period) or `query` (queries that training never saw).
        folder: Of its cells.
        examples: Written by `beam.preprocess`.
        source: The command that made the logs.
        truth: File with the true utilities, if there are any.
    """

    data: str
    split: str
    folder: Path
    examples: Path
    source: str
    truth: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.data} {self.split}"

    def fingerprint(self) -> str:
        """SHA-256 of what the examples' manifest says of the records: features, counts and vocabularies.

        Not of where the logs lay and how the records were made: a config field that came later changes no figure.
        """
        manifest = json.loads((self.examples / schema.MANIFEST).read_bytes())
        for name in ("sources", "config"):
            manifest.pop(name, None)
        text = json.dumps(manifest, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Missing(cli.CommandError):
    """The source of a data set is not on this machine; the text says what is missing."""


class Prepared(NamedTuple):
    """The data sets of a call.

    Attributes:
        data_sets: Those that can be used.
        left_out: Names of those whose source is not on this machine.
        failed: By name of the others: why they could not be made.
    """

    data_sets: list[DataSet]
    left_out: list[str]
    failed: dict[str, str]


def prepare_all(
    wanted: Sequence[tuple[str, str]], sources: Sources, work: Path
) -> Prepared:
    """Makes data sets, or finds them made.

    Args:
        wanted: Names of data and split.
        sources: What to make them from.
        work: Folder of all that is made.

    Raises:
        CommandError: `work` holds one already, made from something else.
    """
    prepared = Prepared([], [], {})
    for data, split in wanted:
        try:
            prepared.data_sets.append(prepare(data, split, sources, work))
        except Missing as e:
            cli.say(str(e))
            prepared.left_out.append(f"{data} {split}")
        except steps.StepFailed as e:
            cli.say(f"failed: {e}")
            prepared.failed[f"{data} {split}"] = str(e)
    return prepared


def prepare(data: str, split: str, sources: Sources, work: Path) -> DataSet:
    """Makes a data set, or finds it made.

    Args:
        data: A name in `SPLITS`.
        split: One of its splits.
        sources: What to make it from.
        work: Folder of all that is made.

    Raises:
        Missing: its source is not here.
        StepFailed: a command failed.
        CommandError: `work` holds it already, made from something else.
    """
    folder = work / f"{data}-{split}"
    logs = work / f"{data}-logs"
    if data == "elo7" and (sources.elo7 / schema.MANIFEST).is_file():
        return DataSet(data, split, folder, sources.elo7, ELO7_SOURCE)
    truth = None
    if data == "elo7":
        source = ELO7_SOURCE
        events, items = _convert_elo7(sources.elo7, logs)
    else:
        source = f"python -m beam.simulate --requests {sources.requests} --items {sources.items}"
        events, items, truth = _simulate(sources, logs)
    examples = folder / "examples"
    inputs = ["--events", events, "--items", items, "--split-by", split]

    def preprocess() -> None:
        cli.say(f"preprocessing {data}, split by {split}")
        steps.run(
            "beam.preprocess",
            *inputs,
            "--output",
            examples,
            log=folder / "preprocess.log",
        )

    _once(folder / "preprocess.json", {"inputs": [str(i) for i in inputs]}, preprocess)
    return DataSet(data, split, folder, examples, source, truth)


def _convert_elo7(raw: Path, logs: Path) -> tuple[Path, Path]:
    """Events and items."""
    convert = raw / "convert.py"
    if not convert.is_file():
        raise Missing(
            f"elo7 is left out: expected convert.py or examples in {raw}; name the folder of the Elo7 logs in ELO7_DIR "
            "or --elo7"
        )
    _once(
        logs / "convert.json",
        {"convert": str(convert)},
        lambda: steps.run_program(convert, logs, log=logs / "convert.log"),
    )
    return logs / "events.jsonl", logs / "items.jsonl"


def _simulate(sources: Sources, logs: Path) -> tuple[Path, Path, Path]:
    """Events, items and true utilities."""
    sizes = {"requests": sources.requests, "items": sources.items}

    def simulate() -> None:
        cli.say(f"simulating {sources.requests} requests over {sources.items} items")
        flags = [flag for name, n in sizes.items() for flag in (f"--{name}", n)]
        steps.run("beam.simulate", "--output", logs, *flags, log=logs / "simulate.log")

    _once(logs / "simulate.json", sizes, simulate)
    return (
        logs / "events.jsonl.gz",
        logs / "items.jsonl.gz",
        logs / "truth.parquet",
    )


def _once(marker: Path, made_from: dict[str, Any], make: Callable[[], object]) -> None:
    """Makes something whose completion a file says, unless that file is there.

    Raises:
        CommandError: it is there, but made from something else.
    """
    if marker.is_file():
        former = json.loads(marker.read_text(encoding="utf-8"))
        if former != made_from:
            raise cli.CommandError(
                f"{marker.parent} was made from {former}, not from {made_from}: give another --work, or remove that "
                "folder"
            )
        return
    make()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
