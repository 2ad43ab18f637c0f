"""The benchmark of training: all systems are given the same pairs, and ours and the tutorial's learn from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from benchmarks.train import layout, ours, pairs, tutorial
from benchmarks.train.layout import Settings
from benchmarks.train.recall import recall
from tfrs_mmse import schema
from tfrs_mmse.presets import two_tower

TINY = ["embedding_dim=8", "attribute_dim=4", "batch_size=64", "epochs=2"]


@pytest.fixture(scope="module")
def folder(simulated_shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs")
    pairs.write(simulated_shop.examples, path, two_tower().override(TINY))
    return path


def test_a_pair_is_a_clicked_or_ordered_item_of_a_training_request(
    simulated_shop: Any, folder: Path
) -> None:
    counts = schema.Manifest.read(simulated_shop.examples).splits[schema.TRAIN]
    positives = counts["clicked"] + counts["ordered"]
    table, items = (
        pq.read_table(folder / layout.PAIRS),
        pq.read_table(folder / "items.parquet"),
    )
    assert len(table) == positives == Settings.read(folder).num_pairs
    # An item's ids are those that it has in the catalogue.
    of_catalogue = items.take(table[layout.ITEM])
    for name in set(table.column_names) & set(items.column_names):
        assert table[name].to_pylist() == of_catalogue[name].to_pylist()


def test_the_raw_text_is_of_the_same_pairs(folder: Path) -> None:
    items = pq.read_table(folder / "items.parquet")
    rows = []
    for path in sorted(folder.glob(layout.TEXT_PAIRS)):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            row = feature[layout.ITEM].int64_list.value[0]
            text = feature[layout.TEXT].bytes_list.value[0].decode()
            assert text == items[layout.TEXT][row].as_py()
            rows.append(row)
    table = pq.read_table(folder / layout.PAIRS)
    assert sorted(rows) == sorted(table[layout.ITEM].to_pylist())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "source"), [(ours, layout.MEMORY), (tutorial, layout.FILES)]
)
def test_a_system_trains_and_its_vectors_can_be_judged(
    folder: Path, tmp_path: Path, system: Any, source: str
) -> None:
    argv = ["--pairs", str(folder), "--output", str(tmp_path), "--source", source]
    assert system.main(argv) == 0
    items = np.load(tmp_path / layout.ITEM_VECTORS)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, rtol=1e-4)
    assert 0 < recall(folder, tmp_path) <= 1
