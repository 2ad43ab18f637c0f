"""What a model directory says of itself: the config and the examples of its run, so that it can go on and be used."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import FLOAT32, TrainConfig
from tfrs_mmse.examples import Examples


def claim(
    model_dir: Path,
    config: TrainConfig,
    examples: Examples,
    data: Path,
    *,
    num_workers: int = 1,
    may_write: bool = True,
) -> None:
    """Makes the directory one of this run, or makes sure that it is.

    Args:
        model_dir: The directory.
        config: The training config.
        examples: What is trained on.
        data: Where that is.
        num_workers: Workers that take each step together.
        may_write: Whether this process is the one of them that writes.

    Raises:
        CommandError: it holds another run.
    """
    manifest = examples.manifest
    is_new = not (model_dir / schema.CONFIG).exists()
    saved = {} if is_new else read(model_dir)
    if not is_new:
        check_fits(saved, manifest, model_dir, data)
        _check_config(saved, config, model_dir)
        examples.check_same(saved.get("examples"), model_dir, data)
        if (begun_with := saved.get("num_workers", 1)) != num_workers:
            raise CommandError(
                f"{model_dir} holds a run of {begun_with} workers, and this cluster has {num_workers}: give another "
                "--model-dir, or as many workers to continue it"
            )
    if may_write and not keeps_vocabularies(saved):
        write(
            model_dir,
            config,
            manifest,
            data,
            examples=examples.description,
            num_workers=num_workers,
        )


def _check_config(saved: dict[str, Any], config: TrainConfig, model_dir: Path) -> None:
    # A field that came after the run was made had its default then; of the precision, what `auto` was without a choice.
    then = TrainConfig(precision=FLOAT32).to_dict()
    former, now = then | saved["config"], config.to_dict()
    if changed := [
        f"{k} {former[k]!r} -> {v!r}" for k, v in now.items() if former[k] != v
    ]:
        raise CommandError(
            f"{model_dir} holds a run with another config ({', '.join(changed)}): give another --model-dir, "
            "or the same config to continue it"
        )


def read(model_dir: Path) -> dict[str, Any]:
    """What a model directory says of itself, as `description` made it.

    Raises:
        CommandError: there is none, or it is of another format version.
    """
    return schema.read_versioned_json(
        model_dir / schema.CONFIG,
        wanted="a model directory written by `python -m tfrs_mmse.train`",
    )


def write(
    model_dir: Path,
    config: TrainConfig,
    manifest: schema.Manifest,
    data: Path,
    *,
    examples: Mapping[str, Any],
    num_workers: int = 1,
) -> None:
    """Makes a model directory: what it says of itself, and the vocabularies, so that the model can be used alone."""
    folder = model_dir / schema.VOCABULARY_DIR
    folder.mkdir(parents=True, exist_ok=True)
    for grain in manifest.features.grains:
        name = f"{grain.name}.txt"
        shutil.copyfile(data / schema.VOCABULARY_DIR / name, folder / name)
    # Last and at once: a directory with a config is one that a training can go on in.
    part = model_dir / f"{schema.CONFIG}.part"
    part.write_text(
        json.dumps(
            {
                **description(config, manifest, num_workers),
                "examples": dict(examples),
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    part.replace(model_dir / schema.CONFIG)


def keeps_vocabularies(saved: dict[str, Any]) -> bool:
    """Whether a model directory that says this of itself holds its vocabularies, as older ones did not."""
    return "preprocessing" in saved


def description(
    config: TrainConfig, manifest: schema.Manifest, num_workers: int = 1
) -> dict[str, Any]:
    """What a model directory says of itself in `config.json`."""
    return {
        "format_version": schema.FORMAT_VERSION,
        "config": config.to_dict(),
        "features": manifest.features.to_dict(),
        "vocabulary_hash": manifest.vocabulary_hash,
        "preprocessing": manifest.config,
        "num_workers": num_workers,
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
