import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.towers import ItemTower, QueryTower, TokenEmbedding, _unit, fused_dim

WORD = schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=10)
BIGRAM = schema.Grain(name="bigram", kind=schema.GrainKind.TEXT, size=10)
BRAND = schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=5)
GRAINS = (WORD, BIGRAM, BRAND)
CONFIG = TrainConfig(embedding_dim=4, attribute_dim=3)


def ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    return tf.ragged.constant(
        rows, dtype=tf.int64, ragged_rank=1, row_splits_dtype=tf.int64
    )


def by_field(items: list[list[list[int]]]) -> tf.RaggedTensor:
    fields = [field for item in items for field in item]
    return tf.RaggedTensor.from_uniform_row_length(ragged(fields), 2)


def towers(config: TrainConfig = CONFIG) -> tuple[QueryTower, ItemTower]:
    tokens = {
        g.name: TokenEmbedding(g, config.embedding_dim, 1.0, seed=1)
        for g in (WORD, BIGRAM)
    }
    return (
        QueryTower(GRAINS, tokens, config),
        ItemTower(GRAINS, tokens, config, num_fields=2),
    )


QUERY = {"word": ragged([[1, 2], [3], []]), "bigram": ragged([[4], [], []])}
# Two items of two text fields.
ITEMS = {
    "word": by_field([[[1], []], [[2], [3]]]),
    "bigram": by_field([[[], []], [[5], []]]),
    "brand": tf.constant([2, 0], tf.int64),
}


def test_pooling_is_the_sum_of_the_tokens_and_zero_for_none():
    embedding = TokenEmbedding(WORD, 2, 1.0, seed=0)
    embedding.table.assign(tf.reshape(tf.range(20, dtype=tf.float32), [10, 2]))
    # Rows 1, 2 and 4 are (2, 3), (4, 5) and (8, 9).
    pooled = embedding(ragged([[1, 2], [], [4, 4, 1], []]))
    assert_allclose(pooled, [[6, 8], [0, 0], [18, 21], [0, 0]])


def test_the_gradient_of_pooling_is_that_of_a_sum() -> None:
    embedding = TokenEmbedding(WORD, 2, 1.0, seed=0)
    texts, weight = ragged([[7, 1], [], [4, 7, 7, 1]]), tf.constant([2.0, 3.0, 5.0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(weight[:, None] * embedding(texts))
    gradient = tf.convert_to_tensor(tape.gradient(loss, embedding.table)).numpy()
    # Each token's texts count as often as it stands in them.
    expected = np.zeros([10, 2])
    expected[7], expected[1], expected[4] = 2 + 2 * 5, 2 + 5, 5
    assert_allclose(gradient, expected)


def test_rare_tokens_start_with_longer_vectors():
    grain = schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=1000)
    table = TokenEmbedding(grain, 256, 0.1, seed=0).table.numpy()
    lengths = np.linalg.norm(table, axis=1)
    # On average as long as a vector of 256 normal values with a deviation of 0.1; log(1000) / log(2) between the ends.
    assert lengths.mean() == pytest.approx(1.6, rel=0.01)
    assert lengths[999] / lengths[1] == pytest.approx(np.log(1000) / np.log(2), rel=0.2)
    assert lengths[0] == pytest.approx(1.6, rel=0.2)  # the unknown token


def test_an_empty_vocabulary_has_a_vector_for_the_unknown_token():
    grain = schema.Grain(name="bigram", kind=schema.GrainKind.TEXT, size=1)
    table = TokenEmbedding(grain, 256, 0.1, seed=0).table.numpy()
    assert np.linalg.norm(table) == pytest.approx(1.6, rel=0.2)


def test_pooling_updates_only_the_rows_it_used():
    embedding = TokenEmbedding(WORD, 2, 1.0, seed=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embedding(ragged([[1, 7, 7], []])))
    gradient = tape.gradient(loss, embedding.table)
    assert isinstance(gradient, tf.IndexedSlices)
    assert sorted(gradient.indices.numpy()) == [1, 7]
    dense = tf.convert_to_tensor(gradient).numpy()
    assert_allclose(dense[1], [1, 1])
    assert_allclose(dense[7], [2, 2])


def test_a_token_of_the_title_weighs_more_than_one_of_another_field():
    tokens = {"word": TokenEmbedding(WORD, 2, 1.0, seed=0)}
    tokens["word"].table.assign([[0, 0], [3, 0], [0, 1], *[[0, 0]] * 7])
    config = TrainConfig(embedding_dim=2, title_weight=4.0)
    tower = ItemTower([WORD], tokens, config, num_fields=2)
    # One token in the title and three in the other field: 4 * (3, 0) + 3 * (0, 1) = (12, 3), and 4 * (0, 1) + (3, 0).
    item = tower({"word": by_field([[[1], [2, 2, 2]], [[2], [1]]])})
    assert_allclose(item, [[12 / 153**0.5, 3 / 153**0.5], [3 / 5, 4 / 5]], rtol=1e-6)


def test_the_fused_score_is_one_inner_product():
    query_tower, item_tower = towers()
    query, item = query_tower(QUERY).numpy(), item_tower(ITEMS).numpy()
    query_tower._fusion_logits.assign([0.5, -1.0, 0.2])
    query, weights = (
        query_tower(QUERY).numpy(),
        query_tower.fusion_weights(QUERY).numpy(),
    )
    blocks = [slice(0, 4), slice(4, 8), slice(8, 11)]
    fused = np.zeros([3, 2])
    for g, block in enumerate(blocks):
        for q in range(3):
            length = np.linalg.norm(query[q, block])
            unit = query[q, block] / length if length else query[q, block]
            fused[q] += weights[q, g] * (item[:, block] @ unit)
    assert_allclose(query @ item.T, fused, rtol=1e-5, atol=1e-7)


def test_each_grain_is_a_unit_vector_or_nothing():
    _, item_tower = towers()
    item = item_tower(ITEMS).numpy()
    norms = [
        [np.linalg.norm(row[b]) for b in (slice(0, 4), slice(4, 8), slice(8, 11))]
        for row in item
    ]
    # Item 0 has no bigram, item 1 has no brand.
    assert_allclose(norms, [[1, 0, 1], [1, 1, 0]], rtol=1e-5)


def test_fusion_weights_are_spread_over_the_grains_that_a_query_has():
    query_tower, _ = towers()
    weights = query_tower.fusion_weights(QUERY).numpy()
    assert_allclose(weights[0], [1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert_allclose(weights[1], [1 / 2, 0, 1 / 2], rtol=1e-6)  # one word has no bigram
    assert np.isfinite(weights).all()  # the empty query too
    assert query_tower.fusion_weights_by_grain() == pytest.approx(
        {"word": 1 / 3, "bigram": 1 / 3, "brand": 1 / 3}
    )


def test_scores_stay_between_minus_one_and_one():
    query_tower, item_tower = towers()
    scores = query_tower(QUERY).numpy() @ item_tower(ITEMS).numpy().T
    assert np.abs(scores).max() <= 1 + 1e-6


def test_early_fusion_gives_one_unit_vector_of_the_same_size():
    query_tower, item_tower = towers(
        TrainConfig(embedding_dim=4, attribute_dim=3, fusion="early")
    )
    query, item = query_tower(QUERY).numpy(), item_tower(ITEMS).numpy()
    assert query.shape[1] == item.shape[1] == fused_dim(GRAINS, CONFIG) == 11
    assert_allclose(np.linalg.norm(item, axis=1), [1, 1], rtol=1e-6)
    assert query_tower.fusion_weights_by_grain() == {}


def test_the_untrained_score_ranks_by_shared_words():
    query_tower, item_tower = towers()
    scores = (
        query_tower({"word": ragged([[3]]), "bigram": ragged([[]])}).numpy()
        @ item_tower(ITEMS).numpy().T
    )
    assert scores[0, 1] > scores[0, 0]  # item 1 holds word 3


def test_embedding_a_batch_is_embedding_its_rows():
    query_tower, item_tower = towers()
    first = {name: ids[:1] for name, ids in ITEMS.items()}
    assert_allclose(item_tower(first), item_tower(ITEMS)[:1], rtol=1e-6)
    assert_allclose(
        query_tower({n: ids[1:2] for n, ids in QUERY.items()}),
        query_tower(QUERY)[1:2],
        rtol=1e-6,
    )


def test_a_unit_vector_of_nothing_is_nothing_and_its_gradient_no_larger_than_what_comes() -> (
    None
):
    vectors = tf.constant([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        units = _unit(vectors)
    assert_allclose(units, tf.math.l2_normalize(vectors, axis=1))
    gradient = tape.gradient(units, vectors, output_gradients=tf.ones([3, 2]))
    assert tf.reduce_max(tf.abs(gradient[:2])) <= 1
