"""What TensorBoard shows of a training: losses, norms, weights and scores at some of its steps."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.config import MIXED, TrainConfig
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.schema import Level
from tfrs_mmse.scores import Scores, compare
from tfrs_mmse.towers import TokenEmbedding

GradientsAndVariables = list[tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]]


class Monitor:
    """Looks at the steps that are to be shown, and writes what was seen.

    Every step runs the same graph, in which the length of the gradient is a branch that changes nothing; the rest is
    seen by another forward pass outside of it. So neither how often nor whether one looks changes a result, and a step
    that is not shown costs nothing.
    """

    def __init__(
        self,
        model_dir: Path,
        model: TwoTowerModel,
        config: TrainConfig,
        *,
        every: int,
        steps_per_epoch: int,
        done: int,
    ) -> None:
        """Removes what was shown of later steps, which are done again, and looks at the model's gradients from now on.

        Args:
            model_dir: The run's directory.
            model: A compiled model.
            config: The training config.
            every: Steps from one that is shown to the next; the last of each epoch is shown too.
            steps_per_epoch: Length of an epoch.
            done: Steps that are done already.
        """
        self._model, self._config = model, config
        self._every, self._steps_per_epoch = every, steps_per_epoch
        folder = model_dir / schema.TENSORBOARD
        trim(folder, last_step=done)
        self._writer = tf.summary.create_file_writer(str(folder))
        self._is_shown: tf.Tensor | None = None
        self._gradient_norm = tf.constant(0.0)
        # Of what scales the loss, the optimiser inside.
        adagrad: Any = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._aggregate = adagrad.gradient_aggregator
        adagrad.gradient_aggregator = self._see_gradients

    def shows(self, step: int) -> bool:
        """Whether the step that ends with so many done is one to be shown."""
        return step % self._every == 0 or step % self._steps_per_epoch == 0

    def look(self, batch: Batch) -> dict[str, float]:
        """What the model as it is makes of a batch: its losses, and the mean scores of the levels.

        Args:
            batch: What the next step trains on.

        Returns:
            Scalars by name; NaN for a level that the batch lacks.
        """
        model = self._model
        query = model.query_embedding(batch.requests.query_ids)
        candidate = model.item_embedding(batch.candidates.ids)
        scores = compare(query, candidate, batch)
        seen = {"loss/retrieval": model.retrieval(scores, batch)}
        if self._config.ranking_weight > 0:
            seen["loss/ranking"] = model.ranking(scores, batch)
        # Of the log's requests, if it is learned from: synthetic ones would all count as clicked.
        slots = slice(batch.num_logged if self._config.use_log else None)
        of_log = scores._replace(slot=scores.slot[slots])
        means = mean_scores(of_log, batch.requests.level[slots])
        seen |= {_score(level): mean for level, mean in means.items()}
        return {name: float(value) for name, value in seen.items()}

    def train_step(
        self, batch: Batch, is_shown: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Takes the model's training step; to be called in a graph.

        Args:
            batch: What the step trains on.
            is_shown: Scalar bool.

        Returns:
            What the model says of the step; and the length of its gradient, 0 if it is not shown.
        """
        self._is_shown = is_shown
        values = self._model.train_step(batch)
        self._is_shown = None
        return values, self._gradient_norm

    def _see_gradients(self, pairs: GradientsAndVariables) -> GradientsAndVariables:
        """Called by the optimiser to sum the gradients of all replicas."""
        pairs = list(self._aggregate(pairs))
        if self._is_shown is not None:
            gradients = [gradient for gradient, _ in pairs]
            self._gradient_norm = tf.cond(
                self._is_shown,
                lambda: global_norm(gradients),
                lambda: tf.constant(0.0),
            )
        return pairs

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes what was seen of a step, and what there is to see of the model after it.

        Args:
            step: Steps done, this one among them.
            values: Scalars by name, those of `look` among them; what is NaN is not written.
        """
        gaps = score_gaps({level: values[_score(level)] for level in Level})
        shown = {**values, **gaps, **dict(self._state())}
        with self._writer.as_default(step=step):
            for name, value in shown.items():
                if math.isfinite(value):
                    tf.summary.scalar(name, value)
        self._writer.flush()

    def _state(self) -> Iterator[tuple[str, float]]:
        config, model = self._config, self._model
        yield "learning_rate", float(model.optimizer.learning_rate.numpy())
        yield "temperature", config.temperature
        if config.dtype_policy == MIXED:
            yield "loss_scale", float(model.optimizer.loss_scale.numpy())
        for name, weight in model.query_tower.fusion_weights_by_grain().items():
            yield f"fusion/{name}", weight
        for name, table in tables(model).items():
            yield f"embedding_norm/{name}", float(root_mean_square_norm(table))


def _score(level: Level) -> str:
    return f"score/{level.name.lower()}"


def tables(model: TwoTowerModel) -> dict[str, tf.Variable]:
    """The embedding tables by grain."""
    text = {
        layer.name.removesuffix("_tokens"): layer.table
        for layer in model.submodules
        if isinstance(layer, TokenEmbedding)
    }
    return dict(sorted({**text, **model.item_tower.attribute_tables}.items()))


def root_mean_square_norm(table: tf.Tensor) -> tf.Tensor:
    """The root of the mean of the rows' squared lengths: [N, D] -> scalar."""
    # Half the sum of squares, without a copy of a large table.
    return tf.sqrt(2 * tf.nn.l2_loss(table) / table.shape[0])


def global_norm(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor:
    """The length of all gradients as one vector; rows of a sparse one that come twice are one row."""
    dense = []
    for gradient in gradients:
        if isinstance(gradient, tf.IndexedSlices):
            rows, number = tf.unique(gradient.indices)
            gradient = tf.math.unsorted_segment_sum(
                gradient.values, number, tf.size(rows)
            )
        dense.append(gradient)
    return tf.linalg.global_norm(dense)


def mean_scores(scores: Scores, level: tf.Tensor) -> dict[Level, tf.Tensor]:
    """The mean score of the items of each level, each with the query that it was shown for.

    Args:
        scores: Of N slots and all candidates.
        level: [N] level of each slot.

    Returns:
        Scalars, NaN where the level does not occur; of `Level.RANDOM`, that of any query and candidate.
    """
    means = {
        wanted: tf.reduce_mean(tf.boolean_mask(scores.slot, level == int(wanted)))
        for wanted in Level
    }
    means[Level.RANDOM] = tf.reduce_mean(scores.candidate)
    return means


def score_gaps(scores: Mapping[Level, float]) -> dict[str, float]:
    """How much higher each level scores than the next lower one that is there.

    Args:
        scores: By level; NaN where it is not there.
    """
    there = sorted(level for level in scores if math.isfinite(scores[level]))
    return {
        f"score_gap/{high.name.lower()}-{low.name.lower()}": scores[high] - scores[low]
        for low, high in itertools.pairwise(there)
    }


def trim(folder: Path, *, last_step: int) -> None:
    """Removes from TensorBoard's files what they show of later steps, and what a kill has left half-written.

    Args:
        folder: Where the files are, if there are any yet.
        last_step: The last step that stays.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        part = folder / "trimmed.part"
        is_empty = True
        with tf.io.TFRecordWriter(str(part)) as writer:
            for record in _whole_records(path):
                event = tf.compat.v1.Event.FromString(record)
                if event.step <= last_step:
                    writer.write(record)
                    is_empty &= not event.HasField("summary")
        if is_empty:
            part.unlink()
            path.unlink()
        else:
            part.replace(path)


def _whole_records(path: Path) -> Iterator[bytes]:
    try:
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    except tf.errors.DataLossError:
        return
