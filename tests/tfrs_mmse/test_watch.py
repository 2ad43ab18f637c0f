"""The watch over the loss, on losses that are made up."""

import pytest
import tensorflow as tf

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.watch import LossWatch, likely_cause


def watch(
    *, steps_per_epoch: int = 50, chance: float = 5.0, **settings: object
) -> LossWatch:
    return LossWatch(
        TrainConfig.from_dict(settings),
        steps_per_epoch=steps_per_epoch,
        chance=chance,
        kept=lambda: "ckpt-50 is kept",
    )


def run(
    watch: LossWatch,
    losses: list[float],
    *,
    steps_per_epoch: int = 50,
    first_step: int = 0,
) -> None:
    """Feeds losses step by step, each with the mean of its epoch so far."""
    for number, loss in enumerate(losses[first_step:], start=first_step):
        so_far = losses[number - number % steps_per_epoch : number + 1]
        watch.after_step(
            number + 1, loss=loss, mean_retrieval_loss=sum(so_far) / len(so_far)
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_at_its_step(bad: float) -> None:
    with pytest.raises(
        CommandError,
        match=rf"the loss became {bad} at step 3, in epoch 1, .* ckpt-50 is kept",
    ):
        run(watch(), [2.0, 1.0, bad, 1.0])


def test_the_epoch_is_named() -> None:
    with pytest.raises(
        CommandError,
        match=r"at step 102, in epoch 3, ",
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


def test_a_run_that_goes_on_is_compared_with_the_same_start() -> None:
    losses = [7.0] + [8.5] * 200
    first = watch()
    run(first, losses[:60])
    second = watch()
    second.reference.assign(first.reference)
    with pytest.raises(CommandError, match=r"from 7 at .* 8\.5, at step 100, in"):
        run(second, losses, first_step=60)


def test_in_a_long_epoch_a_hundred_steps_are_enough() -> None:
    with pytest.raises(CommandError, match="at step 100, in epoch 1"):
        run(watch(steps_per_epoch=10_000), [7.0] + [9.0] * 200, steps_per_epoch=10_000)


def test_broken_weights_are_seen_before_they_are_saved() -> None:
    weights = [tf.Variable([1.0, 2.0], name="word_table")]
    watch().before_saving(200, weights)
    weights[0].assign([1.0, float("nan")])
    with pytest.raises(
        CommandError,
        match=r"the weights of word_table:0 are no numbers any more at step 200, in epoch 4",
    ):
        watch().before_saving(200, weights)


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
