"""The watch over the loss, on losses that are made up; a model is needed for its step number and weights only."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfrs_mmse.callbacks import LossWatch, likely_cause
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig


def watch(
    *,
    steps_per_epoch: int = 50,
    chance: float = 5.0,
    former: float | None = None,
    **settings: object,
) -> LossWatch:
    callback = LossWatch(
        TrainConfig.from_dict(settings),
        steps_per_epoch=steps_per_epoch,
        chance=chance,
        former=former,
    )
    optimizer = SimpleNamespace(iterations=tf.Variable(0))
    weights = [tf.Variable([1.0, 2.0], name="word_table")]
    callback.model = SimpleNamespace(optimizer=optimizer, trainable_variables=weights)
    return callback


def run(callback: LossWatch, losses: list[float], *, steps_per_epoch: int = 50) -> None:
    """Feeds losses step by step, with Keras's mean over the epoch."""
    for number, loss in enumerate(losses):
        epoch, batch = divmod(number, steps_per_epoch)
        if batch == 0:
            callback.on_epoch_begin(epoch)
        so_far = losses[epoch * steps_per_epoch : number + 1]
        callback.model.optimizer.iterations.assign_add(1)
        callback.on_train_batch_end(
            batch, {"loss": loss, "retrieval_loss": sum(so_far) / len(so_far)}
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_at_its_step(bad: float) -> None:
    with pytest.raises(
        CommandError,
        match=rf"the loss became {bad} at step 3, in epoch 1, .* no epoch was completed, so there is no checkpoint",
    ):
        run(watch(), [2.0, 1.0, bad, 1.0])


def test_the_checkpoint_that_is_kept_is_named() -> None:
    with pytest.raises(
        CommandError,
        match=r"at step 102, in epoch 3, .* the checkpoint after epoch 2 is kept",
    ):
        run(watch(), [2.0] * 101 + [float("nan")])


def test_a_loss_that_stays_above_its_start_is_diverging() -> None:
    # From the 100th step on, at the end of each epoch of 50: 8.5 is above 1.2 times 7.
    with pytest.raises(
        CommandError,
        match=r"the loss diverges, from 7 at the start to a mean of 8\.5, at step 100, in epoch 2",
    ):
        run(watch(), [7.0] + [8.5] * 200)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([7.0] + [8.3] * 200, id="within a fifth"),
        pytest.param([7.0] + [60.0] * 49 + [6.0] * 150, id="a bad first epoch"),
        pytest.param([0.1] + [5.9] * 200, id="an easy first batch"),
        pytest.param([0.0] + [5.9] * 200, id="a first batch without positives"),
        pytest.param([250.0] + [200.0] * 200, id="a very low temperature"),
        pytest.param(
            [7.0] + [1.0] * 149 + [9.0] + [1.0] * 49, id="a bad first step of an epoch"
        ),
    ],
)
def test_healthy_losses_go_on(losses: list[float]) -> None:
    run(watch(), losses)


def test_a_run_that_continues_is_compared_with_its_first_epoch() -> None:
    run(watch(former=80.0), [90.0] * 200)
    with pytest.raises(CommandError, match="from 40 at the start to a mean of 90"):
        run(watch(former=40.0), [90.0] * 200)


def test_in_a_long_epoch_a_hundred_steps_are_enough() -> None:
    callback = watch(steps_per_epoch=10_000)
    with pytest.raises(CommandError, match="at step 100, in epoch 1"):
        run(callback, [7.0] + [9.0] * 200, steps_per_epoch=10_000)


def test_broken_weights_are_seen_before_they_are_saved() -> None:
    callback = watch()
    callback.on_epoch_begin(4)
    callback.on_epoch_end(4)
    callback.model.trainable_variables[0].assign([1.0, float("nan")])
    with pytest.raises(
        CommandError,
        match=r"the weights of word_table:0 are no numbers any more .* the checkpoint after epoch 4 is kept",
    ):
        callback.on_epoch_end(4)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({}, "learning_rate 0.1 is too high"),
        ({"learning_rate": 5.0, "temperature": 0.01}, "learning_rate 5 is too high"),
        ({"learning_rate": 0.2, "temperature": 0.001}, "temperature 0.001 is too low"),
        (
            {"temperature": 0.001, "retrieval_loss": "hinge"},
            "learning_rate 0.1 is too high",
        ),
        ({"ranking_temperature": 1e-6}, "ranking_temperature 1e-06 is too low"),
        (
            {"ranking_temperature": 1e-6, "ranking_weight": 0.0},
            "learning_rate 0.1 is too high",
        ),
    ],
)
def test_the_likely_cause_is_the_setting_farthest_from_its_default(
    settings: dict[str, object], cause: str
) -> None:
    assert likely_cause(TrainConfig.from_dict(settings)) == cause
