"""Trainings in mixed precision, on a CPU: what a GPU adds is speed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from tests.tfrs_mmse.runs import arguments, metrics, weights
from tfrs_mmse import precision, restore, schema, steps, train
from tfrs_mmse.batches import Batch, training_batches
from tfrs_mmse.cli import CommandError
from tfrs_mmse.cluster import Cluster
from tfrs_mmse.config import AUTO, FLOAT32, MIXED, TrainConfig
from tfrs_mmse.features import Featurizer, read_vocabularies
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.tf_config import Task

SMALL = {
    "grains": "word",
    "embedding_dim": 8,
    "batch_size": 32,
    "synthetic_queries": 16,
    "uniform_negatives": 32,
}
WITH_SERVERS = Task(
    {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}, type="chief", index=0
)


@pytest.fixture
def alone() -> Cluster:
    return Cluster(tf.distribute.get_strategy(), None)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says that it has one."""
    device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [device])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda _: {"device_name": "Fast"}
    )


def chosen(model_dir: Path, cluster: Cluster, wish: str = AUTO) -> str:
    return precision.resolved(TrainConfig(precision=wish), model_dir, cluster).precision


def test_without_a_gpu_everything_is_float32(tmp_path: Path, alone: Cluster) -> None:
    assert chosen(tmp_path, alone) == FLOAT32
    assert chosen(tmp_path, alone, MIXED) == MIXED


def test_with_a_gpu_products_are_float16_if_nothing_else_is_asked_for(
    tmp_path: Path, alone: Cluster, gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(tmp_path, alone) == MIXED
    assert capsys.readouterr().err == "training on Fast with precision mixed_float16\n"
    assert chosen(tmp_path, alone, FLOAT32) == FLOAT32


@pytest.mark.parametrize(
    ("saved", "found"),
    [({"precision": FLOAT32}, FLOAT32), ({"precision": MIXED}, MIXED), ({}, FLOAT32)],
    ids=["float32", "mixed", "older version"],
)
def test_a_run_keeps_to_what_it_began_with(
    saved: dict[str, str], found: str, tmp_path: Path, alone: Cluster, gpu: None
) -> None:
    document = {"format_version": schema.FORMAT_VERSION, "config": saved}
    (tmp_path / schema.CONFIG).write_text(json.dumps(document))
    assert chosen(tmp_path, alone) == found


def test_parameter_servers_compute_in_float32(tmp_path: Path, gpu: None) -> None:
    cluster = Cluster(tf.distribute.get_strategy(), WITH_SERVERS)
    assert chosen(tmp_path, cluster) == FLOAT32
    with pytest.raises(
        CommandError,
        match=r"precision must be float32 with parameter servers, .* got 'mixed_float16'",
    ):
        chosen(tmp_path, cluster, MIXED)


class Trainee:
    """A model in some precision, and real batches for it, whose losses are weighted."""

    def __init__(self, shop: Any, wish: str, weight: float = 1.0) -> None:
        self.config = TrainConfig.from_dict({**SMALL, "precision": wish})
        spec = schema.Manifest.read(shop.examples).features
        featurizer = Featurizer(spec, read_vocabularies(shop.examples, spec.grains))
        tf.keras.utils.set_random_seed(0)
        self.model = TwoTowerModel(spec, self.config, num_items=300, num_steps=10)
        restore.build(self.model, featurizer)
        self.model.compile(precision.optimizer(self.config))
        loss = self.model.compute_loss
        self.model.compute_loss = lambda *args, **options: (
            weight * loss(*args, **options)
        )
        self.batches = training_batches(
            self.config, shop.examples, featurizer, num_items=300, steps_per_epoch=10
        )

    def scaled_by(self, scale: float) -> "Trainee":
        adagrad = tf.keras.optimizers.legacy.Adagrad(self.config.learning_rate)
        self.model.compile(
            tf.keras.mixed_precision.LossScaleOptimizer(adagrad, initial_scale=scale)
        )
        return self

    def step(self) -> float:
        take = tf.function(self.model.train_step, autograph=False)
        return float(take(next(iter(self.batches)))["loss"])

    def weights(self) -> dict[str, np.ndarray]:
        return {v.name: v.numpy() for v in self.model.trainable_variables}

    def slots(self) -> list[np.ndarray]:
        slots = self.model.optimizer.variables()
        return [v.numpy() for v in slots if "iter" not in v.name]

    def movement(self) -> np.ndarray:
        """By how much a step moves the weights, one after another."""
        before = self.weights()
        self.step()
        return np.concatenate(
            [(v - before[name]).ravel() for name, v in self.weights().items()]
        )


def test_a_step_moves_the_weights_as_in_single_precision(simulated_shop: Any) -> None:
    exact = Trainee(simulated_shop, FLOAT32).movement()
    # At the scale that a run begins with, so small a batch overflows.
    half = Trainee(simulated_shop, MIXED).scaled_by(2.0**10).movement()
    assert np.count_nonzero(exact) > 100
    length = np.linalg.norm(exact)
    # Half precision rounds scores to 2^-12 at worst, and the temperature makes that 20 times as much.
    assert 0 < np.linalg.norm(half - exact) < 0.02 * length


def test_gradients_too_small_for_float16_come_through_by_the_scale(
    simulated_shop: Any,
) -> None:
    tiny = 2.0**-26
    exact = Trainee(simulated_shop, FLOAT32, weight=tiny).movement()
    length = np.linalg.norm(exact)
    lost = Trainee(simulated_shop, MIXED, weight=tiny).scaled_by(1).movement()
    found = Trainee(simulated_shop, MIXED, weight=tiny).scaled_by(2.0**36).movement()
    assert np.linalg.norm(lost - exact) > 0.5 * length
    assert np.linalg.norm(found - exact) < 0.02 * length


def test_a_step_that_overflows_is_counted_and_changes_only_the_scale(
    simulated_shop: Any,
) -> None:
    trainee = Trainee(simulated_shop, MIXED).scaled_by(2.0**60)
    trainee.step()
    before, slots = trainee.weights(), trainee.slots()
    optimizer = trainee.model.optimizer
    taken, scale = int(optimizer.iterations), float(optimizer.loss_scale)
    loss = trainee.step()
    assert np.isfinite(loss)
    assert int(optimizer.iterations) == taken + 1
    assert float(optimizer.loss_scale) == scale / 2
    for name, value in trainee.weights().items():
        np.testing.assert_array_equal(value, before[name])
    for old, new in zip(slots, trainee.slots(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_run_goes_on_exactly_and_its_model_is_used_in_float32(
    simulated_shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = simulated_shop.examples
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = ["precision=mixed_float16", "epochs=3"]
    assert train.main(arguments(data, whole, *settings)) == 0
    log = metrics(whole)
    assert log[-1]["retrieval_loss"] < log[0]["retrieval_loss"]

    with monkeypatch.context() as killed:
        killed.setattr(steps, "take", two_steps_of(steps.take))
        assert train.main(arguments(data, stopped, *settings)) != 0
    # The same command, or one that leaves the precision to the run.
    assert train.main(arguments(data, stopped, "epochs=3")) == 0
    assert metrics(stopped) == log
    ours, theirs = weights(whole), weights(stopped)
    assert any("loss_scale" in name for name in ours)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)

    trained = restore.load_trained(data, whole)
    assert trained.config.precision == MIXED
    assert trained.model.item_tower.compute_dtype == "float32"
    layers = trained.model.submodules
    assert {x.compute_dtype for x in layers if hasattr(x, "compute_dtype")} == {FLOAT32}


def two_steps_of(take: Any) -> Any:
    """Is interrupted after the first epoch, which is two steps."""

    def interrupted(*args: Any, **options: Any) -> Iterator[steps.Step]:
        taken = take(*args, **options)
        yield next(taken)
        yield next(taken)
        raise KeyboardInterrupt

    return interrupted


# On the CPU in any case: they tell of shapes, and where ragged rows begin.
_OF_SHAPES = {"int32", "int64", "bool"}


@pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this TensorFlow knows of no GPU"
)
def test_whatever_a_step_does_to_floats_a_gpu_can_do(simulated_shop: Any) -> None:
    trainee = Trainee(simulated_shop, MIXED)

    @tf.function(input_signature=[trainee.batches.element_spec], autograph=False)
    def step(batch: Batch) -> dict[str, tf.Tensor]:
        return trainee.model.train_step(batch)

    graph = step.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    floats = [node for node in nodes if has_floats(node)]
    assert any(node.op == "MatMul" for node in floats)
    # The requests' scores side by side, for the ranking loss: a few numbers that go to the CPU and back.
    assert {node.op for node in floats if not on_gpu(node)} == {"RaggedTensorToTensor"}


def has_floats(node: Any) -> bool:
    return any(
        attribute.type in (tf.float32.as_datatype_enum, tf.float16.as_datatype_enum)
        for attribute in node.attr.values()
    )


def on_gpu(node: Any) -> bool:
    """Whether TensorFlow has a kernel for GPUs that takes what the node takes."""
    if node.op in ("Placeholder", "PartitionedCall", "StatefulPartitionedCall", "If"):
        return True  # the runtime's, on whatever device
    return any(
        all(
            node.attr[c.name].type in c.allowed_values.list.type
            for c in kernel.constraint
            if c.HasField("allowed_values") and c.allowed_values.list.type
        )
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
        if kernel.device_type in ("GPU", "DEFAULT")
    )
