"""What is agreed about before a training begins."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import plan
from tfrs_mmse.cluster import Cluster
from tfrs_mmse.config import TrainConfig


class Asked(Cluster):
    """A cluster that keeps what its workers are asked to agree about."""

    def __init__(self) -> None:
        super().__init__(tf.distribute.get_strategy(), None)
        self.values: dict[str, Any] = {}

    def check_agreement(self, what: str, value: Any) -> None:
        self.values[what] = value


def agreed(config: TrainConfig, data: Path, model_dir: Path) -> dict[str, Any]:
    cluster = Asked()
    plan.make(config, data, model_dir, cluster)
    return cluster.values


def test_workers_must_agree_about_every_config_field_and_the_examples(
    simulated_shop: Any, tmp_path: Path
) -> None:
    data = simulated_shop.examples
    usual = agreed(TrainConfig(), data, tmp_path)
    other = agreed(TrainConfig(learning_rate=0.2), data, tmp_path)
    assert usual.keys() == {"config", "examples"}
    assert usual["config"] == TrainConfig().to_dict()
    assert other["config"] != usual["config"]
    assert other["examples"] == usual["examples"]
