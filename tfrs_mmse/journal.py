"""Everything that a training tells of its steps and epochs: the bar, the metrics, TensorBoard, recall on a sample."""

from collections.abc import Mapping
from pathlib import Path

from tfrs_mmse import holdout
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.early_stopping import RECALL
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.monitor import Monitor
from tfrs_mmse.plan import Plan
from tfrs_mmse.progress import MetricsLog, ProgressBar
from tfrs_mmse.recall_sample import RecallSample

LOSSES = ("retrieval_loss", "ranking_loss")
SAMPLE_RECALL = "sample_recall@10"  # of requests that are trained on
_SAMPLE_ITEMS = 2000  # so that it costs next to nothing


class Journal:
    """Is told of every step, and measures recall after each epoch: of held-out queries, or else of trained ones.

    Attributes:
        metrics: The epochs so far.
        monitor: Takes the steps, to see what TensorBoard shows of them.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: TwoTowerModel,
        data: Path,
        folder: Path,
        planned: Plan,
        *,
        done: int,
        summary_steps: int,
        is_quiet: bool = False,
    ) -> None:
        """Opens the files, and drops from them what is of later steps than those that are done.

        Args:
            config: The training config.
            model: The compiled model.
            data: Directory of examples.
            folder: Where the files are: the run's directory, if this process is the one that writes there.
            planned: What the training is going to do.
            done: Steps that are done already.
            summary_steps: How often TensorBoard shows a step beside the last of each epoch.
            is_quiet: Whether another process tells it on stderr.
        """
        self._model = model
        self._steps_per_epoch = steps_per_epoch = planned.steps_per_epoch
        self.metrics = MetricsLog(folder, keep=done // steps_per_epoch)
        self.monitor = Monitor(
            folder,
            model,
            config,
            every=summary_steps,
            steps_per_epoch=steps_per_epoch,
            done=done,
        )
        self._bar = ProgressBar(
            done=done,
            num_steps=planned.num_steps,
            steps_per_epoch=steps_per_epoch,
            is_quiet=is_quiet,
        )
        self._validates = planned.held_out is not None
        self._sample = _sample(config, model, data, planned)

    def after_step(
        self, step: int, values: Mapping[str, float], seen: Mapping[str, float]
    ) -> None:
        """Tells of a step; at the end of an epoch also of that.

        Args:
            step: Steps done, this one among them.
            values: What the model says of it: the means of the epoch so far, and the step's own `loss`.
            seen: What the monitor saw of it, if the step is one to be shown.
        """
        losses = {name: values[name] for name in LOSSES}
        shown = {"loss/total": values["loss"], **seen}
        if step % self._steps_per_epoch == 0:
            recall = self._recall()
            shown |= {f"epoch/{name}": value for name, value in losses.items()} | recall
            weights = self._model.query_tower.fusion_weights_by_grain()
            self.metrics.append(
                step // self._steps_per_epoch,
                losses
                | {f"fusion/{name}": weight for name, weight in weights.items()}
                | (recall if self._validates else {}),
            )
        if seen:
            self.monitor.write(step, shown)
        self._bar.after_step(
            step,
            losses,
            learning_rate=float(self._model.optimizer.learning_rate.numpy()),
            recall=self.metrics.last.get(RECALL),
        )

    def close(self) -> None:
        """Ends the bar, whether or not the training is done."""
        self._bar.close()

    def _recall(self) -> dict[str, float]:
        if self._sample is None:
            return {}
        name = RECALL if self._validates else SAMPLE_RECALL
        return {name: self._sample.recall()}


def _sample(
    config: TrainConfig, model: TwoTowerModel, data: Path, planned: Plan
) -> RecallSample | None:
    """The held-out queries, or else some that are trained on; none if the log is not learned from."""
    left_out, spec = planned.examples.left_out, planned.manifest.features
    if planned.held_out is not None:
        return RecallSample(
            model, planned.held_out.sample, data, spec, left_out=left_out
        )
    if not config.use_log:
        return None
    return RecallSample(
        model,
        holdout.training_sample(data, left_out),
        data,
        spec,
        num_items=_SAMPLE_ITEMS,
        left_out=left_out,
    )
