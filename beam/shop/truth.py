"""The true utilities of queries and items: for evaluation only, no real log has them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam.shop.files import whole_file
from beam.shop.simulation import Shop

TOP = 100  # items kept of a query for each of the two utilities

_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("item_id", pa.string()),
        ("click_utility", pa.float32()),
        ("order_utility", pa.float32()),
    ]
)
_ROWS_PER_GROUP = 250_000


def write_truth(path: Path, shop: Shop) -> int:
    """Writes the utilities of every query of the log.

    One row for each query and item, best order first: `query`, `item_id`, `click_utility` (P(clicked | examined)) and
    `order_utility` (P(ordered | examined)), both as means over users who have not bought the item yet. Of each query
    there are the `TOP` items by either utility of the wanted item's category, so at most 200 rows; items of other
    categories are worth next to nothing.

    Returns:
        The number of rows.
    """
    asked = np.unique(shop.requests.query)
    # Ascending, as the strings of an intent follow one another.
    intent_of = shop.queries.intent[asked]
    intents, first = np.unique(intent_of, return_index=True)
    item_id = np.array(shop.catalogue.item_id, object)
    rows: list[pa.RecordBatch] = []
    num_rows = num_pending = 0
    with (
        whole_file(path) as part,
        pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer,
    ):
        for intent, queries in zip(intents, np.split(asked, first[1:]), strict=True):
            item, click, order = best_items(shop, int(intent))
            for query in queries:
                text = [shop.queries.text[query]] * len(item)
                columns = (
                    text,
                    item_id[item],
                    click.astype(np.float32),
                    order.astype(np.float32),
                )
                rows.append(
                    pa.record_batch(list(map(pa.array, columns)), schema=_SCHEMA)
                )
                num_pending += len(item)
            if num_pending >= _ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_batches(rows))
                num_rows, num_pending, rows = num_rows + num_pending, 0, []
        writer.write_table(pa.Table.from_batches(rows, _SCHEMA))
    return num_rows + num_pending


def best_items(shop: Shop, intent: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items of the wanted category that are among its `TOP` by click or by order utility, best order first.

    Returns:
        [M] int64 items, [M] float64 click utilities, [M] float64 order utilities.
    """
    item = shop.market.category_items(intent)
    click, order = shop.market.mean_utilities(np.full(len(item), intent), item)
    keep = np.union1d(_top(click), _top(order))
    keep = keep[np.argsort(-order[keep], kind="stable")]
    return item[keep], click[keep], order[keep]


def _top(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")[:TOP]
