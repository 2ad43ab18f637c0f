"""The two objectives as TFRS tasks: retrieval compares with the whole catalogue, ranking inside one request."""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_mmse import losses, negatives, ranking_losses, schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.config import SOFTMAX_LOSSES, TrainConfig
from tfrs_mmse.losses import Comparison

# From the comparison, the config and the temperature to [P] losses.
RetrievalLoss = Callable[[Comparison, TrainConfig, float | tf.Tensor], tf.Tensor]
# From [B, M] scores, levels and weights and the config to [B] losses.
RankingLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, TrainConfig], tf.Tensor]

RETRIEVAL_LOSSES: dict[str, RetrievalLoss] = {
    "softmax": lambda compared, _, temperature: losses.sampled_softmax_loss(
        compared, temperature=temperature
    ),
    "multi_positive_softmax": lambda compared, _, temperature: (
        losses.multi_positive_softmax_loss(compared, temperature=temperature)
    ),
    "mixed_softmax": lambda compared, config, temperature: losses.mixed_softmax_loss(
        compared, temperature=temperature, mixing=_mixing(compared, config)
    ),
    "hinge": lambda compared, config, _: losses.hinge_loss(
        compared, margin=config.margin
    ),
    "three_part_hinge": lambda compared, *_: losses.three_part_hinge_loss(compared),
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


class RetrievalLosses(NamedTuple):
    """The retrieval loss over all negatives and over the hardest ones.

    Attributes:
        all: Scalar; 0 if the batch has no positive.
        hardest: Scalar, or None if the config asks for no hardest negatives.
    """

    all: tf.Tensor
    hardest: tf.Tensor | None


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
        if config.adaptive_temperature:
            self.temperature = tf.keras.metrics.Mean("temperature")

    def call(
        self, query_embedding: tf.Tensor, candidate_embedding: tf.Tensor, batch: Batch
    ) -> RetrievalLosses:
        """The mean loss of the batch's positives, weighted by level.

        Args:
            query_embedding: [B, D].
            candidate_embedding: [C, D].
            batch: What the embeddings are of.
        """
        config, requests = self._config, batch.requests
        score = tf.linalg.matmul(query_embedding, candidate_embedding, transpose_b=True)
        positive = tf.where(requests.level >= schema.Level.CLICKED)[:, 0]
        row = tf.cast(tf.gather(requests.request, positive), tf.int32)
        column = tf.gather(batch.slot, positive)
        own = negatives.is_own_item(requests.request, batch.slot, tf.shape(score))
        unclicked = tf.where(requests.level == schema.Level.UNCLICKED)[:, 0]
        compared = Comparison(
            positive=tf.gather_nd(score, tf.stack([row, column], axis=1)),
            row=row,
            candidate=score,
            is_negative=~(own | self._is_known_positive(batch)),
            is_unclicked=negatives.is_own_item(
                tf.gather(requests.request, unclicked),
                tf.gather(batch.slot, unclicked),
                tf.shape(score),
            ),
            log_inclusion_probability=self._log_inclusion_probability(batch),
        )
        is_ordered = tf.gather(requests.level, positive) == schema.Level.ORDERED
        weight = tf.where(is_ordered, self._ordered_weight, 1.0)
        temperature = self._temperature(compared)

        def mean_loss(compared: Comparison) -> tf.Tensor:
            loss = self._loss(compared, config, temperature)
            return tf.math.divide_no_nan(
                tf.reduce_sum(weight * loss), tf.reduce_sum(weight)
            )

        if config.hardest_negatives == 0:
            return RetrievalLosses(mean_loss(compared), None)
        hardest = negatives.is_hardest(
            self._difficulty(compared, temperature),
            compared.is_negative,
            count=config.hardest_negatives,
        )
        return RetrievalLosses(
            mean_loss(compared), mean_loss(compared._replace(is_negative=hardest))
        )

    def chance(self) -> float:
        """What the loss is, about, for a model that gives every item the same score."""
        if self._config.retrieval_loss in SOFTMAX_LOSSES:
            return math.log(self._num_items)
        if self._config.retrieval_loss == "hinge":
            return self._config.margin
        return losses.POSITIVE_ABOVE**2

    def _temperature(self, compared: Comparison) -> float | tf.Tensor:
        if not self._config.adaptive_temperature:
            return self._config.temperature
        temperature = losses.adaptive_temperature(compared)
        self.temperature.update_state(temperature)
        return temperature

    def _difficulty(
        self, compared: Comparison, temperature: float | tf.Tensor
    ) -> tf.Tensor:
        """[B, C]: a negative's term in a softmax's sum; its score, where a hinge looks at each alone."""
        if self._config.retrieval_loss in SOFTMAX_LOSSES:
            return compared.candidate / temperature - compared.log_inclusion_probability
        return compared.candidate

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
            num_uniform=self._config.num_random_items,
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

    def call(
        self, query_embedding: tf.Tensor, candidate_embedding: tf.Tensor, batch: Batch
    ) -> tf.Tensor:
        """The mean loss of the requests that hold items of two levels.

        Args:
            query_embedding: [B, D].
            candidate_embedding: [C, D].
            batch: What the embeddings are of.

        Returns:
            Scalar.
        """
        requests = batch.requests
        query = tf.gather(query_embedding, requests.request)
        score = tf.reduce_sum(
            query * tf.gather(candidate_embedding, batch.slot), axis=1
        )
        num_queries = tf.shape(query_embedding, tf.int64)[0]
        level = _by_request(requests.level, requests.request, num_queries, padding=-1)
        weight = ranking_losses.unclicked_weight(
            level,
            _by_request(requests.position, requests.request, num_queries, padding=-1),
            exponent=self._config.unclicked_position_exponent,
        )
        is_ordered = level == schema.Level.ORDERED
        weight *= tf.where(is_ordered, self._ordered_weight, 1.0)
        score = _by_request(score, requests.request, num_queries, padding=0.0)
        loss = self._loss(score, level, weight, self._config)
        return tf.math.divide_no_nan(
            tf.reduce_sum(loss), tf.reduce_sum(_has_two_levels(level))
        )


def _has_two_levels(level: tf.Tensor) -> tf.Tensor:
    """[B] float32, 1 where a request has something to compare; [B, M] levels, -1 where padded."""
    highest = tf.reduce_max(level, axis=1, keepdims=True)
    lower = (level >= 0) & (level < highest)
    return tf.cast(tf.reduce_any(lower, axis=1), tf.float32)


def _mixing(compared: Comparison, config: TrainConfig) -> tf.Tensor:
    """[P, K] shares of the positives in the mixed negatives, drawn anew in each step."""
    shape = [tf.size(compared.positive), config.mixed_negatives]
    return tf.random.uniform(shape, maxval=config.mixing, seed=config.seed)


def _by_request(
    values: tf.Tensor, request: tf.Tensor, num_queries: tf.Tensor, *, padding: float
) -> tf.Tensor:
    """[N] values -> [B, M] padded, one row for each request."""
    return tf.RaggedTensor.from_value_rowids(
        values, request, nrows=num_queries
    ).to_tensor(padding)
