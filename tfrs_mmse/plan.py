"""What a training is going to do: checked, counted and said before it begins."""

import dataclasses
import math
from pathlib import Path

from tfrs_mmse import examples, holdout, levels, resources, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.cluster import Cluster
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.examples import Examples
from tfrs_mmse.holdout import Holdout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A training of some config on some examples.

    Attributes:
        examples: The records that are used.
        held_out: What is validated with, if anything.
        num_requests: That an epoch trains on; synthetic ones, if the log is not learned from.
        steps_per_epoch: Steps that see every one of them once.
        num_steps: Of the whole training.
        ordered_weight: Of an ordered item in both objectives, against 1 of a clicked one.
    """

    examples: Examples
    held_out: Holdout | None
    num_requests: int
    steps_per_epoch: int
    num_steps: int
    ordered_weight: float

    @property
    def manifest(self) -> schema.Manifest:
        return self.examples.manifest


def make(
    config: TrainConfig,
    data: Path,
    model_dir: Path,
    cluster: Cluster,
    *,
    skip_corrupt: bool = False,
) -> Plan:
    """Plans a training, before anything of it is written.

    Args:
        config: The training config.
        data: Directory of examples.
        model_dir: The run's directory.
        cluster: Who takes part.
        skip_corrupt: Whether damaged shards are left out.

    Raises:
        CommandError: the data has no training requests or no positives, or not what the config asks for; a shard is
            damaged; memory or disk will not suffice; or the workers have different examples.
    """
    manifest = schema.Manifest.read(data)
    config.chosen_grains(manifest.features)
    _check_learnable(config, manifest, data)
    if config.use_log:
        counts = manifest.splits[schema.TRAIN]
        levels.check_wishes(config, counts)
        for note in levels.absent_level_notes(config, counts):
            cluster.say(note)
    used = examples.check(
        data, manifest, config, skip_corrupt=skip_corrupt, tell=cluster.say
    )
    manifest = used.manifest
    cluster.check_agreement("config", config.to_dict())
    cluster.check_agreement("examples", [manifest.to_json(), used.description])
    resources.check(
        config,
        manifest,
        used.record_bytes,
        model_dir,
        tables_elsewhere=cluster.has_parameter_servers,
        tell=cluster.say,
    )

    num_requests, batch_size = manifest.num_items, config.synthetic_queries
    ordered_weight, held_out = 1.0, None
    if config.use_log:
        counts = manifest.splits[schema.TRAIN]
        num_requests, batch_size = counts["requests"], config.batch_size
        ordered_weight = levels.ordered_weight(config, counts)
        if ordered_weight != 1:
            cluster.say(
                f"an ordered item weighs as much as {ordered_weight:.1f} clicked ones"
            )
    if config.patience:
        held_out = holdout.read(
            config, data, num_queries=counts["queries"], left_out=used.left_out
        )
        num_requests = held_out.num_training
    steps_per_epoch = math.ceil(num_requests / (batch_size * cluster.turn.num_workers))
    return Plan(
        examples=used,
        held_out=held_out,
        num_requests=num_requests,
        steps_per_epoch=steps_per_epoch,
        num_steps=steps_per_epoch * config.epochs,
        ordered_weight=ordered_weight,
    )


def _check_learnable(
    config: TrainConfig, manifest: schema.Manifest, data: Path
) -> None:
    if not config.use_log:
        return
    counts = manifest.splits.get(schema.TRAIN, {})
    if not counts.get("requests", 0):
        raise CommandError(
            f"{data} holds no training requests: run `python -m beam.preprocess` with --events, or learn from the "
            "catalogue alone with --preset cold_start"
        )
    positive = (schema.Level.CLICKED, schema.Level.ORDERED)
    if not any(counts.get(level.name.lower(), 0) for level in positive):
        raise CommandError(
            f"{data} holds no clicked or ordered item in its training requests to learn from"
        )
