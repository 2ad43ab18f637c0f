from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam.shop.simulation import Shop, open_shop
from beam.shop.truth import TOP, best_items, write_truth


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop(num_requests=400, num_items=8000, seed=3)


def test_the_best_items_are_the_top_by_click_and_the_top_by_order_of_the_category(
    shop: Shop,
) -> None:
    item, click, order = best_items(shop, 0)

    everything = shop.market.category_items(0)
    all_click, all_order = shop.market.mean_utilities(
        np.zeros(len(everything), np.int64), everything
    )
    assert len(everything) > TOP
    by_click = everything[np.argsort(-all_click)[:TOP]]
    by_order = everything[np.argsort(-all_order)[:TOP]]
    assert set(item.tolist()) == set(by_click.tolist()) | set(by_order.tolist())
    assert (np.diff(order) <= 0).all()
    assert (order <= click).all()
    assert (click < 1).all()


def test_the_file_has_every_query_of_the_log_and_utilities_of_its_intent(
    shop: Shop, tmp_path: Path
) -> None:
    rows = write_truth(tmp_path / "truth.parquet", shop)
    table = pq.read_table(tmp_path / "truth.parquet").to_pandas()

    assert list(table.columns) == ["query", "item_id", "click_utility", "order_utility"]
    assert len(table) == rows
    assert set(table["query"]) == {shop.queries.text[q] for q in shop.requests.query}
    assert not table.duplicated(["query", "item_id"]).any()
    assert set(table["item_id"]) <= set(shop.catalogue.item_id)

    query = int(shop.requests.query[-1])
    item, click, order = best_items(shop, int(shop.queries.intent[query]))
    of_query = table[table["query"] == shop.queries.text[query]]
    assert of_query["item_id"].tolist() == [shop.catalogue.item_id[i] for i in item]
    np.testing.assert_allclose(of_query["click_utility"], click, rtol=1e-6)
    np.testing.assert_allclose(of_query["order_utility"], order, rtol=1e-6)
