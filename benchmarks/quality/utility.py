"""How close a ranking comes to the order-optimal one, by the true utilities of the simulated shop.

No log has these: they are the probabilities from which the simulator drew its orders (`beam/shop/truth.py`). So this
figure, unlike recall of logged orders, owes nothing to which items the shop happened to show.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import tensorflow as tf
from ranx.metrics import ndcg

from tfrs_mmse import text, trec

LEVEL, METRIC = "ordered", "utility_ndcg@10"
DEPTH = 10

Gains = dict[bytes, dict[str, float]]
"""By folded query: the utility of its items, by their names in the run files; items that are not listed have none."""


def utility_ndcg(
    gains: Sequence[Mapping[str, float]], ranked: Sequence[Sequence[str]]
) -> np.ndarray:
    """NDCG@10 with the utility itself as gain (linear, Järvelin and Kekäläinen), computed by ranx.

    DCG = sum over ranks r = 1..10 of utility / log2(r + 1), divided by that of the items sorted by utility.

    Args:
        gains: For each query the utilities of its items; all others have 0.
        ranked: For each query the items found, best first.

    Returns:
        [Q] float64; NaN for a query without any utility.
    """
    # Padded with ids that nothing has, different ones: ranx ranks the padding too, to find the best order.
    qrels = np.full((len(gains), max(map(len, gains), default=0) + 1, 2), -2.0)
    run = np.full((len(gains), DEPTH, 2), -1.0)  # -1: no item that has a utility
    known = np.zeros(len(gains), bool)
    for query, (utilities, items) in enumerate(zip(gains, ranked, strict=True)):
        listed = sorted(
            ((u, name) for name, u in utilities.items() if u > 0), reverse=True
        )
        if not listed:
            continue
        known[query] = True
        rows = {name: row for row, (_, name) in enumerate(listed)}
        # ranx takes a gain below 1 for not relevant. NDCG does not depend on the unit, so the smallest becomes 1.
        qrels[query, : len(listed), 0] = range(len(listed))
        qrels[query, : len(listed), 1] = [u / listed[-1][0] for u, _ in listed]
        for rank, name in enumerate(items[:DEPTH]):
            run[query, rank, 0] = rows.get(name, -1)
    values = ndcg(qrels, run, k=DEPTH)
    return np.where(known, values, np.nan)


def read_gains(truth: Path) -> Gains:
    """The order utilities by folded query; where several strings fold to one query, their mean.

    Args:
        truth: `truth.parquet` of `beam.simulate`.
    """
    table = pq.read_table(truth, columns=["query", "item_id", "order_utility"])
    strings = pc.unique(table["query"]).to_pylist()
    folded = dict(
        zip(strings, text.fold(tf.constant(strings)).numpy().tolist(), strict=True)
    )
    num_strings: dict[bytes, int] = defaultdict(int)
    for query in folded.values():
        num_strings[query] += 1
    gains: Gains = defaultdict(lambda: defaultdict(float))
    columns = (column.to_pylist() for column in table.columns)
    for string, item_id, utility in zip(*columns, strict=True):
        query = folded[string]
        name = trec.item_name(item_id.encode("utf-8"))
        gains[query][name] += utility / num_strings[query]
    return gains


def read_top(run: Path) -> dict[str, list[str]]:
    """The best items of each query of a run file, by query id."""
    columns = ["query_id", "q0", "item_id", "rank", "score", "tag"]
    table = pyarrow.csv.read_csv(
        run,
        read_options=pyarrow.csv.ReadOptions(column_names=columns),
        parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=["query_id", "item_id", "rank"],
            column_types={
                "query_id": "string",
                "item_id": "string",
                "rank": "int32",
            },
            strings_can_be_null=False,
        ),
    )
    top = table.filter(pc.less_equal(table["rank"], DEPTH))
    found: dict[str, list[str]] = defaultdict(list)
    for query_id, item_id in zip(
        top["query_id"].to_pylist(), top["item_id"].to_pylist(), strict=True
    ):
        found[query_id].append(item_id)
    return found


def figures_of_run(gains: Gains, queries: Sequence[bytes], run: Path) -> np.ndarray:
    """`utility_ndcg` of each query of a run file.

    Args:
        gains: Of `read_gains`.
        queries: Q folded queries.
        run: TREC run file; a query that is not in it has found nothing.
    """
    top = read_top(run)
    return utility_ndcg(
        [gains.get(query, {}) for query in queries],
        [top.get(trec.query_id(query), []) for query in queries],
    )
