"""The text files of TREC, so that anybody can check our figures with their own tool.

- `PREFIX.qrels`: `query_id 0 item_id level`, levels 1 (unclicked), 2 (clicked) and 3 (ordered) as grades.
- `PREFIX.run`: `query_id Q0 item_id rank score tag`, ranks from 1.
- `PREFIX.queries.tsv`: `query_id`, tab, the folded query on one line.

A query id is the start of the query's SHA-256. White space and `%` in an item id are percent-encoded, which
`urllib.parse.unquote` takes back. Most scorers sort by score and break ties by item id, whatever the rank column says;
so the printed scores are strictly decreasing, also when they are read as float32 as trec_eval does: a score that is not
below the one before it is written as the next smaller float32.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tfrs_mmse import retrieval
from tfrs_mmse.relevance import Qrels
from tfrs_mmse.retrieval import SearchResult

_UNSAFE = re.compile(r"[\s%]")


def query_id(query: bytes) -> str:
    """The same 16 hexadecimal digits for the same folded query, anywhere."""
    return hashlib.sha256(query).hexdigest()[:16]


def item_name(item_id: bytes) -> str:
    """The item id without white space: `a b` becomes `a%20b`, and `5%` becomes `5%25`."""
    return _UNSAFE.sub(lambda match: quote(match[0], safe=""), item_id.decode("utf-8"))


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Writes the levels of all queries, in their order."""
    with path.open("w", encoding="utf-8") as file:
        for query, levels in qrels.items():
            name = query_id(query)
            file.writelines(
                f"{name} 0 {item_name(item_id)} {level}\n"
                for item_id, level in levels.items()
            )


def write_queries(path: Path, queries: Iterable[bytes]) -> None:
    """Writes what each query id stands for; tabs and line breaks in a query become spaces."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            f"{query_id(q)}\t{' '.join(q.decode('utf-8').split())}\n" for q in queries
        )


def write_run(
    path: Path,
    queries: Sequence[bytes],
    item_ids: Sequence[bytes],
    result: SearchResult,
    *,
    tag: str,
) -> None:
    """Writes the results of one system.

    Args:
        path: The file.
        queries: The query of each row of `result`.
        item_ids: The id of each item of the corpus.
        result: Rows of the corpus and scores, best first.
        tag: Names the system, without white space.
    """
    names = [item_name(item_id) for item_id in item_ids]
    scores = strictly_decreasing(result.score)
    with path.open("w", encoding="utf-8") as file:
        for query, index, score in zip(queries, result.index, scores, strict=True):
            name, found = query_id(query), int((index >= 0).sum())
            file.writelines(
                f"{name} Q0 {names[row]} {rank} {value:.9g} {tag}\n"
                for rank, (row, value) in enumerate(
                    zip(index[:found].tolist(), score[:found].tolist(), strict=True),
                    start=1,
                )
            )


def strictly_decreasing(scores: np.ndarray) -> np.ndarray:
    """The largest float32 values that are not above the scores and fall from rank to rank.

    Args:
        scores: [Q, k] float32, descending.
    """
    # With n_r the number of the r-th score among all float32 values: m_r = min(n_r, m_{r-1} - 1), which is a running
    # minimum of m_r + r. In 64 bits, because -inf, which pads, would fall off the end of 32.
    rank = np.arange(scores.shape[1], dtype=np.int64)
    numbers = np.minimum.accumulate(retrieval.ordinals(scores) + rank, axis=1) - rank
    lowest = retrieval.ordinals(np.array([-np.inf], np.float32))[0]
    return retrieval.from_ordinals(np.maximum(numbers, lowest).astype(np.int32))
