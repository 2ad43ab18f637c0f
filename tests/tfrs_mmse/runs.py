"""Small trainings: the arguments of the command, places for those of a cluster, and what they leave behind."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_mmse import checkpoints, schema

SMALL = (
    # Two of the seven grains: most of a small training is making its graph.
    "grains=word,category",
    "embedding_dim=8",
    "attribute_dim=4",
    "batch_size=64",
    "synthetic_queries=16",
    "uniform_negatives=32",
    "epochs=2",
)


def arguments(
    data: Path, model_dir: Path, *settings: str, preset: str = "mmse"
) -> list[str]:
    """Of `tfrs_mmse.train`, for a training in which these settings come after the small ones."""
    flags = [flag for setting in (*SMALL, *settings) for flag in ("--set", setting)]
    places = ["--data", str(data), "--model-dir", str(model_dir)]
    return [*places, "--preset", preset, *flags]


def metrics(model_dir: Path) -> list[dict[str, Any]]:
    """Of each epoch."""
    lines = (model_dir / schema.METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    """Everything in a checkpoint: the model, the optimiser's slots, the step."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if "GRAPH" not in name}


def free_addresses(number: int) -> list[str]:
    """`host:port` of this machine, for the tasks of a cluster."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("localhost", 0)))
            for _ in range(number)
        ]
        return [f"localhost:{s.getsockname()[1]}" for s in sockets]


def weights(model_dir: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint."""
    return tensors(checkpoints.saved(model_dir)[-1])
