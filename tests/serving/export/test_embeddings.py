"""An index built from embeddings that were made elsewhere: the same answers, and only with the model that made them."""

import dataclasses
import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from serving.export import __main__ as export
from serving.export.embeddings import read_embeddings
from serving.server.servable import Servable
from tfrs_mmse import embeddings, restore
from tfrs_mmse.cli import CommandError
from tfrs_mmse.corpus import embed_items
from tfrs_mmse.embeddings import EmbeddingsManifest


@pytest.fixture
def trained(simulated_shop: Any, embedded_shop: Any) -> restore.Trained:
    return restore.load_trained(simulated_shop.examples, embedded_shop.model_dir)


@pytest.fixture
def copied(embedded_shop: Any, tmp_path: Path) -> Path:
    """The embeddings, to be spoilt."""
    return Path(shutil.copytree(embedded_shop.embeddings, tmp_path / "embeddings"))


def _new_file(copied: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=copied.parent)) / "vectors.npy"


def shard(directory: Path) -> Path:
    return directory / EmbeddingsManifest.read(directory).shards()[0]


@pytest.mark.usefixtures("verify_in_process")
def test_the_index_answers_as_one_of_the_examples_catalogue(
    simulated_shop: Any, embedded_shop: Any, tmp_path: Path
) -> None:
    answers = []
    for name, flags in (
        ("examples", []),
        ("embeddings", ["--embeddings", str(embedded_shop.embeddings)]),
    ):
        argv = ["--data", str(simulated_shop.examples), "--index", "exact"]
        argv += ["--model-dir", str(embedded_shop.model_dir), "--k", "300"]
        assert export.main([*argv, "--output", str(tmp_path / name), *flags]) == 0
        servable = Servable(tmp_path / name / "1")
        query = tf.make_tensor_proto(["red dress", "lamp", "xyz"], tf.string)
        found = servable.predict("", {"query": query})
        answers.append(
            [
                dict(zip(ids, scores, strict=True))
                for ids, scores in zip(found["item_id"], found["score"], strict=True)
            ]
        )
    # All 300 items, so that equal scores may stand in any order.
    for ours, theirs in zip(*answers, strict=True):
        assert len(ours) == 300
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_all_items_come_in_the_order_of_the_shards(
    embedded_shop: Any, trained: restore.Trained, tmp_path: Path
) -> None:
    corpus = read_embeddings(embedded_shop.embeddings, trained, tmp_path / "v.npy")
    table = pq.read_table(shard(embedded_shop.embeddings))
    assert [name.decode() for name in corpus.item_id] == table["item_id"].to_pylist()
    assert [title.decode() for title in corpus.title] == table["title"].to_pylist()
    assert corpus.embedding.dtype == np.float32
    wanted = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_array_equal(corpus.embedding, wanted)


def test_another_models_embeddings_are_refused(
    embedded_shop: Any, trained: restore.Trained, tmp_path: Path
) -> None:
    variable = trained.model.query_tower.variables[0]
    variable.assign_add(tf.ones_like(variable) * 1e-6)
    with pytest.raises(
        CommandError,
        match=r"were made with the model [0-9a-f]{12}, this is [0-9a-f]{12}: give the model that made them, or "
        r"embed the catalogue anew with `python -m beam\.embed_items`",
    ):
        read_embeddings(embedded_shop.embeddings, trained, tmp_path / "v.npy")


def test_other_vocabularies_and_features_are_refused(
    embedded_shop: Any, trained: restore.Trained, tmp_path: Path
) -> None:
    manifest = trained.manifest
    other = dataclasses.replace(manifest, vocabulary_hash="0" * 64)
    with pytest.raises(CommandError, match=r"vocabularies \w{12}, the model has 0{12}"):
        read_embeddings(
            embedded_shop.embeddings,
            trained._replace(manifest=other),
            tmp_path / "v.npy",
        )
    features = dataclasses.replace(manifest.features, max_field_words=1)
    other = dataclasses.replace(manifest, features=features)
    with pytest.raises(CommandError, match="other features than the model has"):
        read_embeddings(
            embedded_shop.embeddings,
            trained._replace(manifest=other),
            tmp_path / "v.npy",
        )


def test_vectors_that_the_model_would_not_give_are_refused(
    copied: Path, trained: restore.Trained, tmp_path: Path
) -> None:
    table = pq.read_table(shard(copied))
    place = table.column_names.index(embeddings.EMBEDDING)
    vectors = table[embeddings.EMBEDDING]
    turned = vectors.take(np.arange(len(vectors))[::-1].copy())
    table = table.set_column(place, table.field(place), turned)
    pq.write_table(table, shard(copied))
    with pytest.raises(
        CommandError, match=r"otherwise than is written there, by up to [0-9.]+: embed"
    ):
        read_embeddings(copied, trained, _new_file(copied))


def test_a_missing_a_broken_and_a_strange_shard_are_named(
    copied: Path, trained: restore.Trained
) -> None:
    path = shard(copied)
    table = pq.read_table(path)
    for spoilt, message in (
        (table.slice(1), "hold 299 items, but their manifest says 300"),
        (table.replace_schema_metadata(), "is no shard of 40 dimensions"),
        (table.drop_columns(["embedding"]), "is no shard of 40 dimensions"),
    ):
        pq.write_table(spoilt, path)
        with pytest.raises(CommandError, match=message):
            read_embeddings(copied, trained, _new_file(copied))
    path.write_bytes(b"PAR1")
    with pytest.raises(CommandError, match="is not a whole Parquet file"):
        read_embeddings(copied, trained, _new_file(copied))
    path.unlink()
    with pytest.raises(CommandError, match="is not there: copy the whole directory"):
        read_embeddings(copied, trained, _new_file(copied))


def test_a_directory_of_something_else_is_refused(
    simulated_shop: Any, trained: restore.Trained, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=r"but its manifest\.json is of something"):
        read_embeddings(simulated_shop.examples, trained, tmp_path / "v.npy")
    with pytest.raises(
        CommandError,
        match=r"expected item embeddings written by `python -m beam\.embed_items` in .*, but there is no manifest",
    ):
        read_embeddings(tmp_path, trained, tmp_path / "v.npy")


def test_attributes_are_as_the_catalogue_has_them(
    simulated_shop: Any,
    embedded_shop: Any,
    trained: restore.Trained,
    tmp_path: Path,
) -> None:
    with gzip.open(simulated_shop.items, "rt") as file:
        rows = {row["item_id"]: row for row in map(json.loads, file)}
    for corpus in (
        read_embeddings(embedded_shop.embeddings, trained, tmp_path / "v.npy"),
        embed_items(trained, simulated_shop.examples),
    ):
        found = corpus.attributes
        assert sorted(found) == ["brand", "category", "color", "price"]
        ids = [name.decode() for name in corpus.item_id]
        for name in ("brand", "category", "color"):
            wanted = [(rows[n].get(name) or "").encode() for n in ids]
            assert found[name].tolist() == wanted
        prices = [rows[n].get("price") for n in ids]
        wanted = [np.nan if price is None else price for price in prices]
        assert found["price"].dtype == np.float32
        np.testing.assert_array_equal(found["price"], np.array(wanted, np.float32))


def test_shards_of_an_older_version_have_no_attributes(
    copied: Path, trained: restore.Trained, tmp_path: Path
) -> None:
    table = pq.read_table(shard(copied))
    older = [n for n in table.column_names if not n.startswith("value/")]
    assert older == ["item_id", "title", "embedding"]
    pq.write_table(table.select(older), shard(copied))
    assert read_embeddings(copied, trained, tmp_path / "v.npy").attributes == {}
