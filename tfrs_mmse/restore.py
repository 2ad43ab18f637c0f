"""Brings a trained model back from its directory, together with the data that its ids belong to."""

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel


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
    """Restores the newest checkpoint of a model directory.

    Args:
        data: Directory of examples with the vocabularies that the model was trained with.
        model_dir: Directory that `python -m tfrs_mmse.train` wrote.

    Raises:
        CommandError: the directory holds no model or one of another format version, its training never saved a
            checkpoint, or model and data do not fit together.
    """
    manifest = schema.Manifest.read(data)
    saved = read_run(model_dir)
    check_fits(saved, manifest, model_dir, data)
    config = TrainConfig.from_dict(saved["config"])
    featurizer = Featurizer(
        manifest.features, read_vocabularies(data, manifest.features.grains)
    )
    model = TwoTowerModel(manifest.features, config, num_items=manifest.num_items)
    checkpoint = tf.train.latest_checkpoint(str(model_dir / schema.CHECKPOINTS))
    if checkpoint is None:
        raise CommandError(
            f"{model_dir} holds no checkpoint yet: let `python -m tfrs_mmse.train` finish an epoch"
        )
    build(model, featurizer)
    tf.train.Checkpoint(model=model).restore(
        checkpoint
    ).assert_existing_objects_matched().expect_partial()
    return Trained(config, manifest, featurizer, model)


def read_run(model_dir: Path) -> dict[str, Any]:
    """What a model directory says of itself, as `run_description` made it.

    Raises:
        CommandError: there is none, or it is of another format version.
    """
    return schema.read_versioned_json(
        model_dir / schema.CONFIG,
        wanted="a model directory written by `python -m tfrs_mmse.train`",
    )


def run_description(config: TrainConfig, manifest: schema.Manifest) -> dict[str, Any]:
    """What a model directory says of itself in `config.json`."""
    return {
        "format_version": schema.FORMAT_VERSION,
        "config": config.to_dict(),
        "features": manifest.features.to_dict(),
        "vocabulary_hash": manifest.vocabulary_hash,
    }


def check_fits(
    saved: dict[str, Any], manifest: schema.Manifest, model_dir: Path, data: Path
) -> None:
    """Refuses a model and examples whose ids mean different things.

    Raises:
        CommandError: the vocabularies or the feature specs differ.
    """
    if saved["vocabulary_hash"] != manifest.vocabulary_hash:
        raise CommandError(
            f"the model in {model_dir} was trained with vocabularies {saved['vocabulary_hash'][:12]}, but {data} holds "
            f"{manifest.vocabulary_hash[:12]}: give the examples that it was trained on, or train a new model"
        )
    if schema.FeatureSpec.from_dict(saved["features"]) != manifest.features:
        raise CommandError(
            f"the model in {model_dir} was trained on other features than {data} holds: give the examples that it was "
            "trained on, or train a new model"
        )


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
