"""Brings a trained model back from its directory, alone or together with the data that its ids belong to."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import run_directory, schema
from tfrs_mmse.checkpoints import Checkpoints
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import FLOAT32, TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel

_OF_TRAINING = ("patience", "validation_share", "precision")


class Towers(NamedTuple):
    """A trained model alone: it can embed queries and items, and knows of no examples.

    Attributes:
        config: Its training config.
        vocabulary_hash: That of the vocabularies that it was trained with.
        preprocessing: The config of the preprocessing that made its examples, resolved.
        featurizer: From raw fields to the ids that the model takes; `featurizer.spec` is the feature spec.
        model: `query_embedding` and `item_embedding` take the featurizer's ids.
    """

    config: TrainConfig
    vocabulary_hash: str
    preprocessing: dict[str, Any]
    featurizer: Featurizer
    model: TwoTowerModel


class Trained(NamedTuple):
    """A model that can embed queries and items.

    Attributes:
        config: Its training config.
        manifest: Manifest of the data.
        featurizer: From raw fields to the ids that the model takes.
        model: `query_embedding` and `item_embedding` take the featurizer's ids.
    """

    config: TrainConfig
    manifest: schema.Manifest
    featurizer: Featurizer
    model: TwoTowerModel


def load_trained(data: Path, model_dir: Path) -> Trained:
    """Restores a model directory's best checkpoint; the newest, if its training knew of no best one.

    Args:
        data: Directory of examples with the vocabularies that the model was trained with.
        model_dir: Directory that `python -m tfrs_mmse.train` wrote.

    Raises:
        CommandError: the directory holds no model or one of another format version, its training never saved a
            checkpoint, or model and data do not fit together.
    """
    manifest = schema.Manifest.read(data)
    saved = run_directory.read(model_dir)
    run_directory.check_fits(saved, manifest, model_dir, data)
    config = TrainConfig.from_dict(saved["config"])
    featurizer = Featurizer(
        manifest.features, read_vocabularies(data, manifest.features.grains)
    )
    model = _restored(model_dir, config, featurizer, num_items=manifest.num_items)
    return Trained(config, manifest, featurizer, model)


def load_towers(model_dir: Path) -> Towers:
    """Restores what `load_trained` does without the model's examples.

    Args:
        model_dir: Directory that `python -m tfrs_mmse.train` wrote.

    Raises:
        CommandError: the directory holds no model or one of another format version, its training never saved a
            checkpoint, or the vocabularies beside the model are not there or not its own.
    """
    saved = run_directory.read(model_dir)
    spec = schema.FeatureSpec.from_dict(saved["features"])
    if not run_directory.keeps_vocabularies(saved):
        raise CommandError(
            f"the model in {model_dir} was trained by a version that kept no vocabularies beside the model: "
            "run its `python -m tfrs_mmse.train` command again, which adds them"
        )
    try:
        vocabularies = read_vocabularies(model_dir, spec.grains)
        digest = schema.vocabulary_hash(model_dir, spec.grains)
    except FileNotFoundError as e:
        raise CommandError(
            f"{e.filename} is not there: copy the whole model directory"
        ) from None
    if digest != saved["vocabulary_hash"]:
        raise CommandError(
            f"the vocabularies in {model_dir} ({digest[:12]}) are not those that the model was trained with "
            f"({saved['vocabulary_hash'][:12]}): copy the whole model directory anew"
        )
    config = TrainConfig.from_dict(saved["config"])
    featurizer = Featurizer(spec, vocabularies)
    # How many items there were matters to training only.
    model = _restored(model_dir, config, featurizer, num_items=1)
    return Towers(config, digest, saved["preprocessing"], featurizer, model)


def fingerprint(config: TrainConfig, model: TwoTowerModel) -> str:
    """SHA-256 over the config and the weights of both towers: embeddings of models that differ in it do not fit.

    How a training was stopped, and how exactly it multiplied, is not part of it: it says nothing of how the weights are
    used, and models from before there was a choice have the same as ever.
    """
    fields = {k: v for k, v in config.to_dict().items() if k not in _OF_TRAINING}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for tower in (model.query_tower, model.item_tower):
        for variable in tower.variables:
            values = np.ascontiguousarray(variable.numpy())
            digest.update(f"\0{values.dtype}{values.shape}\0".encode())
            digest.update(values.data)
    return digest.hexdigest()


def _restored(
    model_dir: Path, config: TrainConfig, featurizer: Featurizer, *, num_items: int
) -> TwoTowerModel:
    exact = dataclasses.replace(config, precision=FLOAT32)
    model = TwoTowerModel(featurizer.spec, exact, num_items=num_items)
    build(model, featurizer)
    if Checkpoints(model_dir, model=model).restore_best() is None:
        raise CommandError(
            f"{model_dir} holds no checkpoint yet: let `python -m tfrs_mmse.train` finish an epoch"
        )
    return model


def build(model: TwoTowerModel, featurizer: Featurizer) -> None:
    """Creates every variable of the model by embedding one query and one item."""
    fields = {
        name: tf.zeros([1], spec.dtype)
        if spec.dtype != tf.string
        else tf.constant(["a"])
        for name, spec in featurizer.item_signature().items()
    }
    model.query_embedding(featurizer.query(tf.constant(["a"])))
    model.item_embedding(featurizer.items(fields))
