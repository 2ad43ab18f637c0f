"""The cells of the table: one system trained with one seed on one data set, and evaluated."""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine, steps
from benchmarks.quality.data_sets import DataSet
from benchmarks.quality.descriptions import differences, with_todays_fields
from benchmarks.steps import StepFailed
from tfrs_mmse import cli, schema
from tfrs_mmse.train import resolve

BM25 = "bm25"
PREFIX = "test"  # of the run files in a cell's folder
RUN, BM25_RUN, QRELS = f"{PREFIX}.run", f"{PREFIX}.bm25.run", f"{PREFIX}.qrels"
RESULT, PER_QUERY = f"{schema.TEST}.json", f"{schema.TEST}.parquet"  # of an evaluation

# Written first, after the training, and last.
_WANTED, _TRAINED, _FINISHED = "wanted.json", "trained.json", "finished.json"


class Cell(NamedTuple):
    """What to train, on what.

    Attributes:
        data_set: The data.
        system: A preset of `tfrs_mmse.presets`.
        seed: Of the training.
        settings: `key=value` overrides of the preset.
    """

    data_set: DataSet
    system: str
    seed: int
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.data_set.name} {self.system} {self.seed}"

    @property
    def folder(self) -> Path:
        """Holds model/ (the model's directory), test.run, test.qrels, train.log, ..."""
        return self.data_set.folder / f"{self.system}-{self.seed}"

    @property
    def evaluation(self) -> Path:
        return self.folder / "model" / schema.EVALUATION

    @property
    def bm25_run(self) -> Path:
        """In one cell of each data set."""
        return self.folder / BM25_RUN

    def description(self) -> dict[str, Any]:
        """What decides the cell's outcome, as far as files can tell: data and resolved config."""
        settings = [*self.settings, f"seed={self.seed}"]
        return {
            "system": self.system,
            "seed": self.seed,
            "settings": list(self.settings),
            "config": resolve(self.system, None, settings).to_dict(),
            "examples": self.data_set.fingerprint(),
        }

    def result(self) -> dict[str, Any]:
        """The document of its evaluation."""
        return _read(self.evaluation / RESULT)

    def queries(self) -> list[bytes]:
        """The folded queries of its evaluation, in the order of the per-query figures."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.evaluation / PER_QUERY, columns=[schema.QUERY])
        return [query.encode() for query in table[schema.QUERY].to_pylist()]

    def facts(self) -> dict[str, Any]:
        """What was noted of the training: `train_seconds` (None if it was interrupted) and the `machine`."""
        return _read(self.folder / _FINISHED)


def is_finished(cell: Cell) -> bool:
    """Whether all of its files are there."""
    files = [
        cell.folder / _FINISHED,
        cell.evaluation / RESULT,
        cell.evaluation / PER_QUERY,
        cell.folder / RUN,
        cell.folder / QRELS,
    ]
    return all(file.is_file() for file in files)


def check(cell: Cell, *, redo: bool) -> None:
    """Makes sure that what lies in the cell's folder, if anything, is of the same config and data.

    Args:
        cell: The cell.
        redo: Remove what is of another; otherwise refuse.

    Raises:
        CommandError: it is of another.
    """
    path = cell.folder / _WANTED
    if not path.is_file():
        return
    if changes := _changes(path, cell):
        if not redo:
            raise cli.CommandError(
                f"{cell.folder} holds the cell with other values ({', '.join(changes)}): give --redo to make such "
                "cells again, or another --work"
            )
        cli.say(f"{cell.name}: made again, changed are {', '.join(changes)}")
        shutil.rmtree(cell.folder)


def make(cell: Cell, made_on: dict[str, Any], *, keep_model: bool) -> None:
    """Trains and evaluates, or goes on where that stopped. BM25 is evaluated beside one cell of each data set.

    Args:
        cell: The cell.
        made_on: The machine, noted beside the seconds.
        keep_model: Whether the checkpoints stay; a finished cell does not need them.

    Raises:
        StepFailed: one of the two commands failed.
    """
    folder, data = cell.folder, cell.data_set.examples
    folder.mkdir(parents=True, exist_ok=True)
    description = cell.description()
    _write(folder / _WANTED, description)
    data_and_model = ["--data", data, "--model-dir", folder / "model"]
    settings = [*cell.settings, f"seed={cell.seed}"]
    if not (folder / _TRAINED).is_file():
        is_continued = (folder / "model" / schema.CHECKPOINTS).is_dir()
        trained = steps.run(
            "tfrs_mmse.train",
            *data_and_model,
            "--preset",
            cell.system,
            *(flag for setting in settings for flag in ("--set", setting)),
            log=folder / "train.log",
        )
        # Of a training that was interrupted, only the time of its last part is known.
        seconds = None if is_continued else trained["seconds"]
        _write(folder / _TRAINED, {"train_seconds": seconds, "machine": made_on})
    steps.run(
        "tfrs_mmse.evaluate",
        *data_and_model,
        "--run-output",
        folder / PREFIX,
        "--no-report",
        *(["--no-bm25"] if bm25_cell(cell.data_set) else []),
        log=folder / "evaluate.log",
    )
    if not keep_model:
        shutil.rmtree(folder / "model" / schema.CHECKPOINTS)
    _write(folder / _FINISHED, _read(folder / _TRAINED))


def make_all(
    missing: Sequence[Cell], jobs: int, *, keep_models: bool
) -> dict[str, str]:
    """Makes cells, `jobs` of them at a time.

    Returns:
        By name of those that could not be made, why.
    """
    failed: dict[str, str] = {}

    def make_one(number: int, cell: Cell) -> None:
        cli.say(f"{cell.name} ({number} of {len(missing)} on these data)")
        make(cell, {**machine.describe(), "jobs": jobs}, keep_model=keep_models)

    with ThreadPoolExecutor(jobs) as pool:
        made = {pool.submit(make_one, n, c): c for n, c in enumerate(missing, start=1)}
        try:
            for future in as_completed(made):
                try:
                    future.result()
                except StepFailed as e:
                    cli.say(f"failed: {e}")
                    failed[made[future].name] = str(e)
        except BaseException:  # Ctrl-C too: what has not begun is not begun any more
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def finished_cells(data_set: DataSet, systems: Sequence[str]) -> list[Cell]:
    """All finished cells of a data set whose config and data are still what their system stands for today.

    Args:
        data_set: The data set.
        systems: The systems there are, in the order of the result; seeds ascend.
    """
    known = [cell for cell in _found(data_set) if cell.system in systems]
    result = []
    for cell in sorted(known, key=lambda cell: (systems.index(cell.system), cell.seed)):
        if changes := _changes(cell.folder / _WANTED, cell):
            cli.say(
                f"{cell.name} is left out of the table, changed are {', '.join(changes)}"
            )
        else:
            result.append(cell)
    return result


def bm25_cell(data_set: DataSet) -> Cell | None:
    """The finished cell that BM25 was evaluated beside; its own config does not matter."""
    for cell in _found(data_set):
        if cell.bm25_run.is_file():
            description = _read(cell.folder / _WANTED)
            if description["examples"] == data_set.fingerprint():
                return cell
    return None


def _found(data_set: DataSet) -> Iterator[Cell]:
    for path in sorted(data_set.folder.glob(f"*/{_WANTED}")):
        values = _read(path)
        settings = tuple(values["settings"])
        cell = Cell(data_set, values["system"], values["seed"], settings)
        if is_finished(cell):
            yield cell


def _changes(wanted: Path, cell: Cell) -> list[str]:
    """What differs between the description in a folder and that of the cell today."""
    before, after = with_todays_fields(_read(wanted)), cell.description()
    for description in (before, after):
        description.update(description.pop("config"))
    return differences(before, after)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")  # others read it meanwhile
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
