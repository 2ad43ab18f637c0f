"""The two towers: from ids to one vector whose inner product is the fused similarity.

Post-fusion, our reading (the abstract of MMSE names it and does not define it): each grain g gives a unit vector on
either side, similarities are taken grain by grain and fused after the towers,

    s(q, i) = sum_g w_g(q) <q_g, i_g>,    w(q) = softmax over the grains that the query has.

Because w stands on the query side only, s is the inner product of concat_g(w_g(q) q_g) and concat_g(i_g), which is what
the towers return: one index serves the trained score exactly.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.records import Ids


class TokenEmbedding(tf.keras.layers.Layer):
    """One text grain's table, shared by both towers, and the sum over the tokens of a text."""

    def __init__(
        self, grain: schema.Grain, dim: int, initial_scale: float, seed: int
    ) -> None:
        """Args as in `TrainConfig`; `grain.size` rows."""
        super().__init__(name=f"{grain.name}_tokens")
        self.dim = dim
        initializer = tf.keras.initializers.RandomNormal(
            stddev=initial_scale, seed=seed
        )
        self.table = self.add_weight(
            name="table",
            shape=[grain.size, dim],
            initializer=lambda shape, dtype, **part: (
                _rows_of(_rarity(shape[0]), **part) * initializer(shape, dtype, **part)
            ),
        )

    def call(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Sum of the tokens' embeddings: int64 [B, (tokens)] -> float32 [B, dim], zero where there is none."""
        # Each row is fetched and updated once, however often it occurs.
        unique, index = tf.unique(ids.flat_values)
        return _pooled(
            tf.nn.embedding_lookup(self.table, unique),
            index,
            ids.value_rowids(),
            ids.nrows(),
        )


@tf.custom_gradient
def _pooled(
    rows: tf.Tensor, index: tf.Tensor, text: tf.Tensor, num_texts: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None, None, None]]]:
    """[B, dim] sum over each text's tokens.

    Args:
        rows: [U, dim] the distinct tokens' embeddings.
        index: [T] row of each token.
        text: [T] number of the text that each token stands in, ascending.
        num_texts: B.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
        # The same sum the other way round, over each token's texts. TensorFlow's own gradient takes the tokens as they
        # come, and more than twice as long as to sort them and sum.
        order = tf.argsort(index)
        of_rows = tf.sparse.segment_sum(
            upstream,
            tf.gather(text, order),
            tf.gather(index, order),
            num_segments=tf.shape(rows)[0],
        )
        return of_rows, None, None, None

    return tf.sparse.segment_sum(rows, index, text, num_segments=num_texts), gradient


def _rarity(size: int) -> tf.Tensor:
    """[size, 1] length with which each token starts, 1 on average: rare tokens say more than frequent ones.

    Ids are ranks by frequency. By Zipf's law a token's frequency falls with its rank r, so log(1 + r) grows as its
    inverse document frequency does. Id 0 is every unknown token.
    """
    if size == 1:  # an empty vocabulary: there is nothing to take a mean of
        return tf.ones([1, 1])
    rank = tf.range(size, dtype=tf.float32)
    length = tf.math.log1p(rank)
    length = tf.where(rank == 0, tf.reduce_mean(length[1:]), length)
    return (length / tf.reduce_mean(length))[:, None]


def _rows_of(
    values: tf.Tensor,
    *,
    partition_shape: Sequence[int] | None = None,
    partition_offset: Sequence[int] = (0,),
) -> tf.Tensor:
    """Those of a shard, where a table is made in several."""
    if partition_shape is None:
        return values
    first = partition_offset[0]
    return values[first : first + partition_shape[0]]


class QueryTower(tf.keras.layers.Layer):
    """Query ids -> [B, D]."""

    def __init__(
        self,
        grains: Sequence[schema.Grain],
        tokens: Mapping[str, TokenEmbedding],
        config: TrainConfig,
    ) -> None:
        """Builds the maps of each grain.

        Args:
            grains: The grains in use.
            tokens: The shared embedding of each text grain.
            config: The training config.
        """
        super().__init__(name="query_tower")
        self._tokens = dict(tokens)
        self._grains = tuple(grains)
        self._maps = _maps(grains, config) if config.fusion == "post" else {}
        self._early = (
            None
            if config.fusion == "post"
            else _linear("early", fused_dim(grains, config), config)
        )
        if self._early is None:
            self._fusion_logits = self.add_weight(
                name="fusion_logits", shape=[len(grains)], initializer="zeros"
            )

    def call(self, ids: Ids) -> tf.Tensor:
        """Embeds queries.

        Args:
            ids: int64 [B, (tokens)] of each text grain.

        Returns:
            [B, D] float32; the weighted unit vectors of all grains side by side, or one unit vector (early fusion).
        """
        pooled = {
            name: _mean(embedding(ids[name]), ids[name].row_lengths())
            for name, embedding in self._tokens.items()
        }
        text = tf.concat(list(pooled.values()), axis=1)
        if self._early is not None:
            return _unit(self._early(text))
        # An attribute's side of the query is predicted from all of its text.
        units = [
            _unit(self._maps[g.name](pooled.get(g.name, text))) for g in self._grains
        ]
        weights = self.fusion_weights(ids)
        return tf.concat(
            [weights[:, g, None] * unit for g, unit in enumerate(units)], axis=1
        )

    def fusion_weights(self, ids: Ids) -> tf.Tensor:
        """w(q): [B, grains] float32, >= 0; they sum to 1 over the grains that the query has."""
        any_text = tf.reduce_any(
            [ids[name].row_lengths() > 0 for name in self._tokens], axis=0
        )
        has = [
            ids[g.name].row_lengths() > 0 if g.name in self._tokens else any_text
            for g in self._grains
        ]
        present = tf.stack(has, axis=1)
        return tf.nn.softmax(
            tf.where(present, self._fusion_logits[None, :], tf.float32.min / 2), axis=1
        )

    def fusion_weights_by_grain(self) -> dict[str, float]:
        """The fusion weights of a query that has every grain, by grain name; none for early fusion."""
        if self._early is not None:
            return {}
        weights = tf.nn.softmax(self._fusion_logits).numpy()
        return {
            grain.name: float(weight)
            for grain, weight in zip(self._grains, weights, strict=True)
        }


class ItemTower(tf.keras.layers.Layer):
    """Item ids -> [N, D]."""

    def __init__(
        self,
        grains: Sequence[schema.Grain],
        tokens: Mapping[str, TokenEmbedding],
        config: TrainConfig,
        *,
        num_fields: int,
    ) -> None:
        """Args as for `QueryTower`, and the number of text fields, of which the title is the first."""
        super().__init__(name="item_tower")
        self._field_weight = tf.constant(
            [config.title_weight] + [1.0] * (num_fields - 1)
        )
        self._tokens = dict(tokens)
        self._grains = tuple(grains)
        text_grains = [g for g in grains if g.kind is schema.GrainKind.TEXT]
        self._maps = _maps(text_grains, config) if config.fusion == "post" else {}
        self._early = (
            None
            if config.fusion == "post"
            else _linear("early", fused_dim(grains, config), config)
        )
        initializer = tf.keras.initializers.RandomNormal(
            stddev=config.initial_scale, seed=config.seed
        )
        self._attributes = {
            g.name: self.add_weight(
                name=f"{_scope(g.name)}_table",
                shape=[g.size, config.attribute_dim],
                initializer=initializer,
            )
            for g in grains
            if g.kind is not schema.GrainKind.TEXT
        }

    @property
    def attribute_tables(self) -> dict[str, tf.Variable]:
        """The embedding table of each attribute, [size, attribute_dim]."""
        return dict(self._attributes)

    def call(self, ids: Ids) -> tf.Tensor:
        """Embeds items.

        Args:
            ids: int64 [N, F, (tokens)] of each text grain, int64 [N] of each attribute grain.

        Returns:
            [N, D] float32; unit vectors of all grains side by side, zero where an item lacks the attribute, or one
            unit vector (early fusion).
        """
        raw = {g.name: self._raw(g, ids) for g in self._grains}
        if self._early is not None:
            return _unit(self._early(tf.concat(list(raw.values()), axis=1)))
        units = [
            _unit(
                self._maps[g.name](raw[g.name]) if g.name in self._maps else raw[g.name]
            )
            for g in self._grains
        ]
        return tf.concat(units, axis=1)

    def _raw(self, grain: schema.Grain, ids: Ids) -> tf.Tensor:
        if grain.name in self._tokens:
            return self._mean_of_fields(self._tokens[grain.name], ids[grain.name])
        # Id 0 is a missing value: no direction at all.
        known = tf.cast(ids[grain.name] > 0, tf.float32)[:, None]
        return known * tf.nn.embedding_lookup(
            self._attributes[grain.name], ids[grain.name]
        )

    def _mean_of_fields(
        self, embedding: TokenEmbedding, ids: tf.RaggedTensor
    ) -> tf.Tensor:
        """[N, dim] weighted mean of all fields' tokens: each token weighs as its field."""
        by_field = ids.values
        num_fields = self._field_weight.shape[0]
        sums = tf.reshape(embedding(by_field), [-1, num_fields, embedding.dim])
        counts = tf.reshape(by_field.row_lengths(), [-1, num_fields])
        total = tf.reduce_sum(sums * self._field_weight[:, None], axis=1)
        weights = tf.linalg.matvec(tf.cast(counts, tf.float32), self._field_weight)
        return _mean(total, weights)


def _unit(vector: tf.Tensor) -> tf.Tensor:
    """Row-wise unit vectors, [N, dim] -> [N, dim]; a row of zeros stays one.

    `tf.math.l2_normalize` gives such a row, a text without tokens, a gradient a million times too large. Nothing is
    learned from it, but half precision overflows.
    """
    square = tf.reduce_sum(vector**2, axis=1, keepdims=True)
    return vector * tf.math.rsqrt(tf.where(square > 0, tf.maximum(square, 1e-12), 1.0))


def _mean(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Row-wise total / count, 0 where nothing was counted: [B, dim], [B] -> [B, dim]."""
    return tf.math.divide_no_nan(total, tf.cast(count, tf.float32)[:, None])


def fused_dim(grains: Sequence[schema.Grain], config: TrainConfig) -> int:
    """D: dimensions of the vectors that the towers return, the same for either fusion."""
    is_text = [g.kind is schema.GrainKind.TEXT for g in grains]
    return sum(
        config.embedding_dim if text else config.attribute_dim for text in is_text
    )


def _maps(
    grains: Sequence[schema.Grain], config: TrainConfig
) -> dict[str, tf.keras.layers.Dense]:
    """One linear map a grain. Those of text start as the identity: the untrained score is then a lexical one."""
    identity = tf.keras.initializers.Identity()
    return {
        g.name: _linear(g.name, config.embedding_dim, config, identity)
        if g.kind is schema.GrainKind.TEXT
        else _linear(g.name, config.attribute_dim, config)
        for g in grains
    }


def _scope(name: str) -> str:
    """A column's name as TensorFlow takes it in the names of a graph: a catalogue may call a column anything."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if name[:1].isalnum() else f"column{name}"


def _linear(
    name: str,
    dim: int,
    config: TrainConfig,
    initializer: tf.keras.initializers.Initializer | None = None,
) -> tf.keras.layers.Dense:
    initializer = initializer or tf.keras.initializers.GlorotUniform(seed=config.seed)
    return _Linear(
        dim,
        use_bias=False,
        kernel_initializer=initializer,
        name=f"{_scope(name)}_map",
        dtype=config.dtype_policy,
    )


class _Linear(tf.keras.layers.Dense):
    """A map that returns float32, in whatever precision it multiplies: lengths are taken of the result."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(super().call(inputs), tf.float32)
