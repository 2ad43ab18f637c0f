"""The two objectives as TFRS tasks: retrieval compares with the whole catalogue, ranking inside one request."""

import math
from collections.abc import Callable

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_mmse import losses, negatives, ranking_losses, replicas, schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.config import SOFTMAX_LOSSES, TrainConfig
from tfrs_mmse.losses import Comparison
from tfrs_mmse.scores import Scores

# From the comparison, the config and the step's seed to [P] losses.
RetrievalLoss = Callable[[Comparison, TrainConfig, tf.Tensor], tf.Tensor]
# From [B, M] scores, levels and weights and the config to [B] losses.
RankingLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, TrainConfig], tf.Tensor]

RETRIEVAL_LOSSES: dict[str, RetrievalLoss] = {
    "softmax": lambda compared, config, _: losses.sampled_softmax_loss(
        compared, temperature=config.temperature
    ),
    "mixed_softmax": lambda compared, config, seed: losses.mixed_softmax_loss(
        compared,
        temperature=config.temperature,
        mixing=_mixing(compared, config, seed),
    ),
    "hinge": lambda compared, config, _: losses.hinge_loss(
        compared, margin=config.margin
    ),
}
RANKING_LOSSES: dict[str, RankingLoss] = {
    "logistic": lambda score, level, weight, config: (
        ranking_losses.pairwise_logistic_loss(
            score, level, weight=weight, temperature=config.ranking_temperature
        )
    ),
    "hinge": lambda score, level, weight, config: ranking_losses.pairwise_hinge_loss(
        score, level, weight=weight, margin=config.ranking_margin
    ),
    "listwise": lambda score, level, weight, config: ranking_losses.listwise_loss(
        score, level, weight=weight, temperature=config.ranking_temperature
    ),
}


class LevelRetrieval(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Global comparison: every ordered or clicked item against the items of other requests and random ones.

    `tfrs.tasks.Retrieval` knows one positive per query and takes every other candidate for a negative; here a request
    has several positives of two levels, and what the query clicked or ordered elsewhere is never a negative.
    """

    def __init__(
        self, config: TrainConfig, num_items: int, *, ordered_weight: float = 1.0
    ) -> None:
        """Args:
        config: The training config.
        num_items: Items in the catalogue, from which the random ones are drawn.
        ordered_weight: Of an ordered positive, against 1 of a clicked one.
        """
        super().__init__(name="retrieval")
        self._config = config
        self._num_items = num_items
        self._ordered_weight = ordered_weight
        self._loss = RETRIEVAL_LOSSES[config.retrieval_loss]

    def call(self, scores: Scores, batch: Batch) -> tf.Tensor:
        """The mean loss of the batch's positives, weighted by level.

        Args:
            scores: Of the batch.
            batch: What is scored.

        Returns:
            Scalar; 0 if the batch has no positive. Of several replicas, each one's share of the mean over all.
        """
        requests = batch.requests
        positive = tf.where(requests.level >= schema.Level.CLICKED)[:, 0]
        own = negatives.is_own_item(
            requests.request, batch.slot, tf.shape(scores.candidate)
        )
        compared = Comparison(
            positive=tf.gather(scores.slot, positive),
            row=tf.cast(tf.gather(requests.request, positive), tf.int32),
            candidate=scores.candidate,
            is_negative=~(own | self._is_known_positive(batch)),
            log_inclusion_probability=self._log_inclusion_probability(batch),
        )
        is_ordered = tf.gather(requests.level, positive) == schema.Level.ORDERED
        weight = tf.where(is_ordered, self._ordered_weight, 1.0)
        loss = self._loss(compared, self._config, batch.seed)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * loss), replicas.total(tf.reduce_sum(weight))
        )

    def chance(self) -> float:
        """What the loss is, about, for a model that gives every item the same score."""
        if self._config.retrieval_loss in SOFTMAX_LOSSES:
            return math.log(self._num_items)
        return self._config.margin

    def _is_known_positive(self, batch: Batch) -> tf.Tensor | bool:
        if not self._config.mask_positives:
            return False
        return negatives.is_known_positive(
            batch.candidates.key, batch.requests.positive_key
        )

    def _log_inclusion_probability(self, batch: Batch) -> tf.Tensor:
        log_probability = batch.candidates.log_probability
        if not self._config.log_q:
            return tf.zeros_like(log_probability)
        return negatives.log_inclusion_probability(
            log_probability,
            num_slots=batch.num_logged,
            num_uniform=self._config.num_random_items * replicas.num_replicas(),
            num_items=self._num_items,
        )


class LevelRanking(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Local comparison: inside a request, ordered above clicked above unclicked."""

    def __init__(self, config: TrainConfig, *, ordered_weight: float = 1.0) -> None:
        """Args:
        config: The training config.
        ordered_weight: Of a pair with an ordered item, against 1 of others.
        """
        super().__init__(name="ranking")
        self._config = config
        self._ordered_weight = ordered_weight
        self._loss = RANKING_LOSSES[config.ranking_loss]

    def call(self, scores: Scores, batch: Batch) -> tf.Tensor:
        """The mean loss of the requests that hold items of two levels.

        Args:
            scores: Of the batch.
            batch: What is scored.

        Returns:
            Scalar; of several replicas, each one's share of the mean over all.
        """
        requests = batch.requests
        num_queries = tf.shape(scores.candidate, tf.int64)[0]
        level = _by_request(requests.level, requests.request, num_queries, padding=-1)
        weight = ranking_losses.unclicked_weight(
            level,
            _by_request(requests.position, requests.request, num_queries, padding=-1),
            exponent=self._config.unclicked_position_exponent,
        )
        is_ordered = level == schema.Level.ORDERED
        weight *= tf.where(is_ordered, self._ordered_weight, 1.0)
        score = _by_request(scores.slot, requests.request, num_queries, padding=0.0)
        loss = self._loss(score, level, weight, self._config)
        return tf.math.divide_no_nan(
            tf.reduce_sum(loss), replicas.total(tf.reduce_sum(_has_two_levels(level)))
        )


def _has_two_levels(level: tf.Tensor) -> tf.Tensor:
    """[B] float32, 1 where a request has something to compare; [B, M] levels, -1 where padded."""
    highest = tf.reduce_max(level, axis=1, keepdims=True)
    lower = (level >= 0) & (level < highest)
    return tf.cast(tf.reduce_any(lower, axis=1), tf.float32)


def _mixing(compared: Comparison, config: TrainConfig, seed: tf.Tensor) -> tf.Tensor:
    """[P, K] shares of the positives in the mixed negatives, drawn anew in each step."""
    shape = [tf.size(compared.positive), config.mixed_negatives]
    return tf.random.stateless_uniform(shape, seed, maxval=config.mixing)


def _by_request(
    values: tf.Tensor, request: tf.Tensor, num_queries: tf.Tensor, *, padding: float
) -> tf.Tensor:
    """[N] values -> [B, M] padded, one row for each request."""
    return tf.RaggedTensor.from_value_rowids(
        values, request, nrows=num_queries
    ).to_tensor(padding)
