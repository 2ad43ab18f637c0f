"""A model directory that is used without the examples."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrs_mmse import restore, schema, train
from tfrs_mmse.cli import CommandError


@pytest.fixture
def copied(embedded_shop: Any, tmp_path: Path) -> Path:
    """The model directory, to be spoilt."""
    return Path(shutil.copytree(embedded_shop.model_dir, tmp_path / "run"))


def test_a_model_alone_embeds_as_with_its_examples(
    simulated_shop: Any, embedded_shop: Any
) -> None:
    towers = restore.load_towers(embedded_shop.model_dir)
    trained = restore.load_trained(simulated_shop.examples, embedded_shop.model_dir)
    query = tf.constant(["red dress", "lamp"])
    np.testing.assert_array_equal(
        towers.model.query_embedding(towers.featurizer.query(query)),
        trained.model.query_embedding(trained.featurizer.query(query)),
    )
    assert towers.featurizer.spec == trained.manifest.features
    assert towers.vocabulary_hash == trained.manifest.vocabulary_hash
    assert towers.preprocessing == trained.manifest.config


def test_a_fingerprint_is_of_config_and_weights(embedded_shop: Any) -> None:
    first, again = (restore.load_towers(embedded_shop.model_dir) for _ in range(2))
    fingerprint = restore.fingerprint(first.config, first.model)
    assert restore.fingerprint(again.config, again.model) == fingerprint
    # The title's weight is in no variable.
    config = first.config.override(["title_weight=2.0"])
    assert restore.fingerprint(config, first.model) != fingerprint
    table = again.model.item_tower.variables[-1]
    table.assign_add(tf.ones_like(table))
    assert restore.fingerprint(again.config, again.model) != fingerprint


def test_vocabularies_of_another_model_are_refused(copied: Path) -> None:
    with (copied / schema.VOCABULARY_DIR / "word.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(
        CommandError,
        match=r"the vocabularies in .* \(\w{12}\) are not those that the model was trained with \(\w{12}\): copy",
    ):
        restore.load_towers(copied)
    (copied / schema.VOCABULARY_DIR / "word.txt").unlink()
    with pytest.raises(CommandError, match=r"word\.txt is not there: copy the whole"):
        restore.load_towers(copied)


def test_an_older_model_gets_its_vocabularies_by_its_own_command(
    simulated_shop: Any, copied: Path
) -> None:
    saved = json.loads((copied / schema.CONFIG).read_text())
    shutil.rmtree(copied / schema.VOCABULARY_DIR)
    older = {name: saved[name] for name in saved if name != "preprocessing"}
    (copied / schema.CONFIG).write_text(json.dumps(older))
    with pytest.raises(
        CommandError, match=r"run its `python -m tfrs_mmse\.train` comm"
    ):
        restore.load_towers(copied)
    config = copied / "settings.json"
    config.write_text(json.dumps(saved["config"]))
    flags = ["--data", str(simulated_shop.examples), "--config", str(config)]
    assert train.main([*flags, "--model-dir", str(copied)]) == 0
    assert json.loads((copied / schema.CONFIG).read_text()) == saved
    restore.load_towers(copied)
