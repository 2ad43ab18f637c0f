"""How good the vectors of a system are: one judge for all of them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.train.layout import ITEM_VECTORS, ITEMS, QUERY_VECTORS, Settings
from tfrs_mmse import metrics, relevance, retrieval, schema

_K = 100


def recall(pairs: Path, vectors: Path) -> float:
    """Mean recall@100 of the held-out queries' clicked and ordered items, from the whole catalogue.

    Args:
        pairs: Folder that `pairs.write` wrote.
        vectors: Folder with a system's `queries.npy` and `items.npy`.
    """
    qrels = relevance.read_qrels(Path(Settings.read(pairs).examples), schema.TEST)
    items = pq.read_table(pairs / ITEMS, columns=[schema.ITEM_ID])
    ids = [item.encode() for item in items[schema.ITEM_ID].to_pylist()]
    found = retrieval.top_k(
        np.load(vectors / QUERY_VECTORS), np.load(vectors / ITEM_VECTORS), _K
    )
    figures = metrics.Judgements(qrels, ids).figures(found.index)
    mean = metrics.means(figures)["clicked"][f"recall@{_K}"]
    assert mean is not None
    return round(mean, 4)
