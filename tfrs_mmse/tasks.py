"""The two objectives as TFRS tasks: retrieval compares with the whole catalogue, ranking inside one request."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_mmse import negatives, schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.losses import pairwise_logistic_loss, sampled_softmax_loss


class LevelRetrieval(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Global comparison: every ordered or clicked item against the items of other requests and random ones.

    `tfrs.tasks.Retrieval` knows one positive per query and takes every other candidate for a negative; here a request
    has several positives of two levels, and what the query clicked or ordered elsewhere is never a negative.
    """

    def __init__(self, config: TrainConfig, num_items: int) -> None:
        """Args:
        config: The training config.
        num_items: Items in the catalogue, from which the random ones are drawn.
        """
        super().__init__(name="retrieval")
        self._config = config
        self._num_items = num_items

    def call(
        self, query_embedding: tf.Tensor, candidate_embedding: tf.Tensor, batch: Batch
    ) -> tf.Tensor:
        """The mean loss of the batch's positives, weighted by level.

        Args:
            query_embedding: [B, D].
            candidate_embedding: [C, D].
            batch: What the embeddings are of.

        Returns:
            Scalar, in nats; 0 if the batch has no positive.
        """
        config, requests, candidates = self._config, batch.requests, batch.candidates
        score = tf.linalg.matmul(query_embedding, candidate_embedding, transpose_b=True)

        excluded = negatives.is_own_item(requests.request, batch.slot, tf.shape(score))
        if config.mask_positives:
            excluded |= negatives.is_known_positive(
                candidates.key, requests.positive_key
            )
        if config.log_q:
            log_inclusion = negatives.log_inclusion_probability(
                candidates.log_probability,
                num_slots=tf.size(batch.slot),
                num_uniform=config.uniform_negatives,
                num_items=self._num_items,
            )
        else:
            log_inclusion = tf.zeros_like(candidates.log_probability)

        positive = tf.where(requests.level >= schema.Level.CLICKED)[:, 0]
        row = tf.cast(tf.gather(requests.request, positive), tf.int32)
        losses = sampled_softmax_loss(
            tf.gather_nd(
                score, tf.stack([row, tf.gather(batch.slot, positive)], axis=1)
            ),
            score,
            row=row,
            is_negative=~excluded,
            log_inclusion_probability=log_inclusion,
            temperature=config.temperature,
        )
        is_ordered = tf.gather(requests.level, positive) == schema.Level.ORDERED
        weight = tf.where(is_ordered, config.ordered_weight, config.clicked_weight)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * losses), tf.reduce_sum(weight)
        )


class LevelRanking(tf.keras.layers.Layer, tfrs.tasks.Task):
    """Local comparison: inside a request, ordered above clicked above unclicked."""

    def __init__(self, config: TrainConfig) -> None:
        """Args:
        config: The training config.
        """
        super().__init__(name="ranking")
        self._temperature = config.ranking_temperature

    def call(
        self, query_embedding: tf.Tensor, candidate_embedding: tf.Tensor, batch: Batch
    ) -> tf.Tensor:
        """The mean loss of the requests.

        Args:
            query_embedding: [B, D].
            candidate_embedding: [C, D].
            batch: What the embeddings are of.

        Returns:
            Scalar, in nats.
        """
        requests = batch.requests
        query = tf.gather(query_embedding, requests.request)
        score = tf.reduce_sum(
            query * tf.gather(candidate_embedding, batch.slot), axis=1
        )
        num_queries = tf.shape(query_embedding, tf.int64)[0]
        losses = pairwise_logistic_loss(
            _by_request(score, requests.request, num_queries, padding=0.0),
            _by_request(requests.level, requests.request, num_queries, padding=-1),
            temperature=self._temperature,
        )
        return tf.reduce_mean(losses)


def _by_request(
    values: tf.Tensor, request: tf.Tensor, num_queries: tf.Tensor, *, padding: float
) -> tf.Tensor:
    """[N] values -> [B, M] padded, one row for each request."""
    return tf.RaggedTensor.from_value_rowids(
        values, request, nrows=num_queries
    ).to_tensor(padding)
