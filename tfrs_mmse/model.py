"""The model: two towers and two objectives."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrs_mmse import replicas, schema
from tfrs_mmse.batches import Batch
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.records import Ids
from tfrs_mmse.schedules import linear_rise
from tfrs_mmse.scores import compare
from tfrs_mmse.tasks import LevelRanking, LevelRetrieval
from tfrs_mmse.towers import ItemTower, QueryTower, TokenEmbedding


class TwoTowerModel(tfrs.Model):
    """Queries and items embedded separately; their inner product is the score.

    Every preset is this class with another config.
    """

    def __init__(
        self,
        spec: schema.FeatureSpec,
        config: TrainConfig,
        *,
        num_items: int,
        num_steps: int | None = None,
        ordered_weight: float = 1.0,
    ) -> None:
        """Builds towers and tasks.

        Args:
            spec: Feature spec of the data.
            config: The training config.
            num_items: Items in the catalogue.
            num_steps: Steps of the whole training, for the schedules; None for a model that is not trained.
            ordered_weight: Of an ordered item in both objectives, against 1 of a clicked one.
        """
        super().__init__()
        grains = config.chosen_grains(spec)
        tokens = {
            g.name: TokenEmbedding(
                g, config.embedding_dim, config.initial_scale, config.seed
            )
            for g in grains
            if g.kind is schema.GrainKind.TEXT
        }
        self.query_tower = QueryTower(grains, tokens, config)
        self.item_tower = ItemTower(
            grains, tokens, config, num_fields=len(spec.text_fields)
        )
        self.retrieval = LevelRetrieval(
            config, num_items, ordered_weight=ordered_weight
        )
        self.ranking = LevelRanking(config, ordered_weight=ordered_weight)
        self._config = config
        self._product_dtype = tf.keras.mixed_precision.Policy(
            config.dtype_policy
        ).compute_dtype
        self._num_steps = num_steps
        self.retrieval_loss = replicas.EqualMean("retrieval_loss")
        self.ranking_loss = replicas.EqualMean("ranking_loss")

    def query_embedding(self, ids: Ids) -> tf.Tensor:
        """[B, D] float32 from the ids of B queries."""
        return self.query_tower(ids)

    def item_embedding(self, ids: Ids) -> tf.Tensor:
        """[N, D] float32 from the ids of N items."""
        return self.item_tower(ids)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """L = L_retrieval + lambda(t) L_ranking; of several replicas, each one's share of it."""
        config = self._config
        query = self.query_tower(inputs.requests.query_ids)
        candidate = self.item_tower(inputs.candidates.ids)
        candidate, inputs = replicas.gathered(candidate, inputs)

        scores = compare(query, candidate, inputs, dtype=self._product_dtype)
        loss = self.retrieval(scores, inputs)
        self.retrieval_loss.update_state(replicas.total(loss))
        if config.ranking_weight > 0:
            ranking = self.ranking(scores, inputs)
            self.ranking_loss.update_state(replicas.total(ranking))
            loss += ranking * linear_rise(
                config.ranking_weight,
                share=config.ranking_warmup,
                step=self.optimizer.iterations,
                num_steps=self._num_steps or 0,
            )
        return loss

    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """TFRS's training step; with an optimiser that scales the loss, what TFRS's lacks for that."""
        optimizer = self.optimizer
        if not hasattr(optimizer, "get_scaled_loss"):
            return super().train_step(inputs)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
            scaled = optimizer.get_scaled_loss(loss)
        scaled_gradients = tape.gradient(scaled, self.trainable_variables)
        gradients = optimizer.get_unscaled_gradients(scaled_gradients)
        optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {m.name: m.result() for m in self.metrics} | {"loss": loss}
