"""Stops a training that is past saving, at the step where it shows."""

import math
from collections.abc import Callable, Iterable

import tensorflow as tf

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import SOFTMAX_LOSSES, TrainConfig

_EARLIEST, _FACTOR = 100, 1.2


class LossWatch:
    """Looks at the losses of every step, and at the weights before they are saved.

    A loss that is no finite number stops the training at once. So does one that *diverges*: after 100 steps at the
    earliest, the mean retrieval loss of the epoch so far (of 100 steps, or of the whole epoch if that is shorter) is
    1.2 times what it was for the untrained model, or for one that gives every item the same score, whichever is higher.
    The towers return unit vectors, so a ruined model's loss does not grow without end: it hovers above where it
    started, and thresholds far above that would never be reached. A healthy run is far below its start by then,
    whatever its temperature; the ranking loss, which comes in by and by, is left out.

    Attributes:
        reference: Scalar float32, the loss to compare with; 0 before the first step. A training that goes on needs it.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        steps_per_epoch: int,
        chance: float,
        kept: Callable[[], str],
    ) -> None:
        """Args:
        config: The training config, for the likely cause.
        steps_per_epoch: Length of an epoch.
        chance: Retrieval loss of a model that gives every item the same score, above 0.
        kept: Says which checkpoint there is.
        """
        self._config, self._chance = config, chance
        self._steps_per_epoch, self._kept = steps_per_epoch, kept
        self.reference = tf.Variable(0.0, trainable=False)

    def after_step(self, step: int, *, loss: float, mean_retrieval_loss: float) -> None:
        """Looks at a step's losses.

        Args:
            step: Steps done, this one among them.
            loss: Of this step.
            mean_retrieval_loss: Of the epoch so far.

        Raises:
            CommandError: the training is past saving.
        """
        if not math.isfinite(loss):
            self._stop(f"the loss became {loss}", step)
        if not self.reference.numpy():
            self.reference.assign(max(mean_retrieval_loss, self._chance))
        in_epoch = (step - 1) % self._steps_per_epoch + 1
        reference = float(self.reference.numpy())
        if (
            step >= _EARLIEST
            and in_epoch >= min(_EARLIEST, self._steps_per_epoch)
            and mean_retrieval_loss > _FACTOR * reference
        ):
            self._stop(
                f"the loss diverges, from {reference:.4g} at the start to a mean of {mean_retrieval_loss:.4g},",
                step,
            )

    def before_saving(self, step: int, weights: Iterable[tf.Variable]) -> None:
        """Looks at the weights, which may be broken by the last step's update without any loss having shown it.

        Raises:
            CommandError: a weight is no finite number.
        """
        for variable in weights:
            with tf.device(variable.device):  # it may be on another machine
                is_finite = tf.reduce_all(tf.math.is_finite(variable))
            if not is_finite:
                self._stop(
                    f"the weights of {variable.name} are no numbers any more", step
                )

    def _stop(self, what: str, step: int) -> None:
        epoch = (step - 1) // self._steps_per_epoch + 1
        raise CommandError(
            f"{what} at step {step}, in epoch {epoch}, most likely because {likely_cause(self._config)}: change it and "
            f"train into another --model-dir; {self._kept()}"
        )


def likely_cause(config: TrainConfig) -> str:
    """The setting that is farthest on the dangerous side of its default."""
    usual = TrainConfig()
    excess = {
        f"learning_rate {config.learning_rate:g} is too high": config.learning_rate
        / usual.learning_rate
    }
    if config.retrieval_loss in SOFTMAX_LOSSES:
        excess[f"temperature {config.temperature:g} is too low"] = (
            usual.temperature / config.temperature
        )
    if config.ranking_weight > 0 and config.ranking_loss != "hinge":
        excess[f"ranking_temperature {config.ranking_temperature:g} is too low"] = (
            usual.ranking_temperature / config.ranking_temperature
        )
    return max(excess, key=excess.__getitem__)
