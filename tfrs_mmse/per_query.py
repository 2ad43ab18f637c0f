"""What an evaluation leaves behind for a later one: the figures of every query, and what they were asked of.

`MODEL_DIR/evaluation/SPLIT.parquet` has a row for each query of the split: `query`, its folded string, and for each
system, segment and figure a float64 column `SYSTEM/SEGMENT/FIGURE`, as `mmse/clicked/recall@10`. It is null where the
query has no relevant item in the segment. Rows stand in the order of the queries' bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.metrics import Figures
from tfrs_mmse.relevance import Qrels


class Previous(NamedTuple):
    """An earlier evaluation of the same queries over the same items.

    Attributes:
        model_dir: Its model.
        system: The name of its model's figures.
        result: The document it printed.
        figures: The figures of its model for every query.
    """

    model_dir: Path
    system: str
    result: dict[str, Any]
    figures: Figures


def task_hash(qrels: Qrels, item_ids: Iterable[bytes]) -> str:
    """SHA-256 of what was asked: queries, their levels, and the items to find them among, in any order."""
    digest = hashlib.sha256()
    for query in sorted(qrels):
        levels = sorted(qrels[query].items())
        digest.update(repr((query, levels)).encode())
    for item_id in sorted(item_ids):
        digest.update(repr(item_id).encode())
    return digest.hexdigest()


def write(path: Path, queries: Sequence[bytes], figures: Mapping[str, Figures]) -> None:
    """Writes the figures of all systems.

    Args:
        path: The file.
        queries: The Q queries.
        figures: By system, the figures of these queries.
    """
    columns = {
        f"{system}/{segment}/{name}": pa.array(values, from_pandas=True)  # NaN to null
        for system, segments in figures.items()
        for segment, named in segments.items()
        for name, values in named.items()
    }
    text = pa.array([query.decode("utf-8") for query in queries], pa.string())
    pq.write_table(pa.table({schema.QUERY: text, **columns}), path)


def read(path: Path, system: str) -> Figures:
    """Reads the figures of one system, NaN for null."""
    table = pq.read_table(path)
    figures: Figures = {}
    for column in table.column_names:
        if column.startswith(f"{system}/"):
            _, segment, name = column.split("/", 2)
            values = table[column].to_numpy().astype(np.float64)
            figures.setdefault(segment, {})[name] = values
    return figures


def read_previous(model_dir: Path, split: str, task: str, baseline: str) -> Previous:
    """Reads an earlier evaluation, for a comparison query by query.

    Args:
        model_dir: Its model directory.
        split: The split.
        task: `task_hash` of the evaluation it is compared with.
        baseline: Name of the system that is no model.

    Raises:
        CommandError: it is not there, or of other queries, levels or items.
    """
    folder = model_dir / schema.EVALUATION
    document, table = folder / f"{split}.json", folder / f"{split}.parquet"
    again = f"run `python -m tfrs_mmse.evaluate --model-dir {model_dir} --split {split}` with the same --data first"
    for path in (document, table):
        if not path.is_file():
            raise CommandError(
                f"expected an evaluation of the split {split!r} in {folder} to compare with, but there is no "
                f"{path.name}: {again}"
            )
    try:
        result = json.loads(document.read_text(encoding="utf-8"))
    except ValueError as e:
        raise CommandError(f"{document} is not valid JSON ({e}): {again}") from None
    if result.get("task") != task:
        raise CommandError(
            f"the evaluation in {folder} is of other queries, levels or items than this one and can not be compared "
            f"with it: {again}"
        )
    [system] = [name for name in result["systems"] if name != baseline]
    return Previous(model_dir, system, result, read(table, system))
