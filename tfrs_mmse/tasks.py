"""The two objectives as TFRS tasks: retrieval compares with the whole catalogue, ranking inside one request."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_mmse import negatives, schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.losses import pairwise_logistic_loss, sampled_softmax_loss
from tfrs_mmse.records import Items, Requests


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
        self,
        query_embedding: tf.Tensor,
        item_embedding: tf.Tensor,
        random_embedding: tf.Tensor,
        requests: Requests,
        random_items: Items,
    ) -> tf.Tensor:
        """The mean loss of the batch's positives, weighted by level.

        Args:
            query_embedding: [B, D].
            item_embedding: [N, D], the requests' items.
            random_embedding: [U, D], the random items.
            requests: What the batch holds.
            random_items: The random items.

        Returns:
            Scalar, in nats; 0 if the batch has no positive.
        """
        config = self._config
        key = tf.concat([requests.items.key, random_items.key], axis=0)
        log_probability = tf.concat(
            [requests.items.log_probability, random_items.log_probability], axis=0
        )
        candidates = tf.concat([item_embedding, random_embedding], axis=0)
        score = tf.linalg.matmul(query_embedding, candidates, transpose_b=True)

        num_queries, num_candidates = tf.shape(score)[0], tf.shape(score)[1]
        excluded = negatives.is_own_item(requests.request, num_queries, num_candidates)
        if config.mask_positives:
            excluded |= negatives.is_known_positive(key, requests.positive_key)
        if config.log_q:
            log_expected_count = negatives.log_expected_count(
                log_probability,
                num_in_batch=tf.size(requests.request),
                num_uniform=config.uniform_negatives,
                num_items=self._num_items,
            )
        else:
            log_expected_count = tf.zeros_like(log_probability)

        positive = tf.where(requests.level >= schema.Level.CLICKED)[:, 0]
        row = tf.gather(requests.request, positive)
        losses = sampled_softmax_loss(
            tf.gather_nd(score, tf.stack([row, positive], axis=1)),
            score,
            row=row,
            is_negative=~excluded,
            log_expected_count=log_expected_count,
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
        self, query_embedding: tf.Tensor, item_embedding: tf.Tensor, requests: Requests
    ) -> tf.Tensor:
        """The mean loss of the requests.

        Args:
            query_embedding: [B, D].
            item_embedding: [N, D], the requests' items.
            requests: What the batch holds.

        Returns:
            Scalar, in nats.
        """
        score = tf.reduce_sum(
            tf.gather(query_embedding, requests.request) * item_embedding, axis=1
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
