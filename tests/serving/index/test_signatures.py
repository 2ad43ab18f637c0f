"""The signatures of saved and reloaded versions, against brute force."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.index.exact import ExactIndex
from serving.index.scann import ScannIndex
from serving.index.scann_build import ScannSettings
from serving.index.signatures import SearchModule, input_names, save


@pytest.fixture(scope="module", params=["exact_version", "scann_version"])
def loaded(request: pytest.FixtureRequest) -> Any:
    """Both kinds, as a fresh object."""
    return tf.saved_model.load(str(request.getfixturevalue(request.param)))


def _oracle(shop: Any, query: str, excluded: set[bytes], k: int) -> list[bytes]:
    ids = shop.trained.featurizer.query(tf.constant([query]))
    scores = shop.corpus.embedding @ shop.trained.model.query_embedding(ids).numpy()[0]
    order = [shop.corpus.item_id[row] for row in np.argsort(-scores, kind="stable")]
    return [name for name in order if name not in excluded][:k]


def test_names_and_types_are_the_contract(loaded: Any) -> None:
    described = {
        name: (
            {
                key: (spec.dtype.name, spec.shape.as_list())
                for key, spec in f.structured_input_signature[1].items()
            },
            {
                key: (spec.dtype.name, spec.shape.as_list())
                for key, spec in f.structured_outputs.items()
            },
        )
        for name, f in loaded.signatures.items()
    }
    query, found = (
        ("string", [None]),
        {"item_id": ("string", [None, 5]), "score": ("float32", [None, 5])},
    )
    fields = {
        "title": ("string", [None]),
        "Brand__EU_": ("string", [None]),
        "price": ("float32", [None]),
    }
    assert described == {
        "serving_default": ({"query": query}, found),
        "search_excluding": (
            {"query": query, "exclude": ("string", [None, None])},
            found,
        ),
        "search_filtered": (
            {
                "query": query,
                "k": ("int32", [None]),
                "exclude": ("string", [None, None]),
                "filter": ("string", [None, None]),
            },
            {
                "item_id": ("string", [None, None]),
                "score": ("float32", [None, None]),
                "num_matching": ("int64", [None]),
            },
        ),
        "embed_query": ({"query": query}, {"embedding": ("float32", [None, 16])}),
        "embed_item": (fields, {"embedding": ("float32", [None, 16])}),
    }


def test_exclusions_match_brute_force_for_any_width(loaded: Any, shop: Any) -> None:
    rng = np.random.default_rng(0)
    queries = shop.queries.held_out[:6]
    for width in (0, 1, 4, 30, 99, 150):
        exclude = rng.choice(
            [*shop.corpus.item_id, b"", b"no such item"], size=(len(queries), width)
        )
        exclude = tf.constant(exclude.tolist(), tf.string, [len(queries), width])
        found = loaded.signatures["search_excluding"](
            query=tf.constant(queries), exclude=exclude
        )
        for query, ids, names in zip(
            queries, found["item_id"].numpy(), exclude.numpy(), strict=True
        ):
            expected = _oracle(shop, query, set(names), 5)
            assert ids.tolist() == expected + [b""] * (5 - len(expected))


def test_excluding_everything_pads_every_place(loaded: Any, shop: Any) -> None:
    exclude = tf.constant([shop.corpus.item_id.tolist()])
    found = loaded.signatures["search_excluding"](
        query=tf.constant(["red hat"]), exclude=exclude
    )
    assert found["item_id"].numpy().tolist() == [[b""] * 5]
    assert found["score"].numpy().tolist() == [[-np.inf] * 5]


def test_an_empty_batch_is_answered(loaded: Any) -> None:
    nothing = tf.constant([], tf.string)
    assert loaded.signatures["serving_default"](query=nothing)["item_id"].shape == (
        0,
        5,
    )
    empty = tf.zeros([0, 3], tf.string)
    assert loaded.signatures["search_excluding"](query=nothing, exclude=empty)[
        "score"
    ].shape == (0, 5)
    assert loaded.signatures["embed_query"](query=nothing)["embedding"].shape == (0, 16)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", "query must hold at least one letter or digit"),
        ("😀🎉", "query must hold at least one letter or digit"),
        ("a" * 10_000, "query must be at most 1024 bytes long"),
        (b"\xff\xfe shoe", "Invalid formatting on input string"),
    ],
)
@pytest.mark.parametrize("name", ["serving_default", "search_excluding", "embed_query"])
def test_a_bad_query_is_refused_whatever_stands_beside_it(
    loaded: Any, name: str, query: str | bytes, complaint: str
) -> None:
    more = (
        {"exclude": tf.zeros([2, 0], tf.string)} if name == "search_excluding" else {}
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=complaint):
        loaded.signatures[name](query=tf.constant(["red hat", query]), **more)


def test_exclusions_of_another_size_are_refused(loaded: Any) -> None:
    search = loaded.signatures["search_excluding"]
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="exclude must have one row for each query"
    ):
        search(query=tf.constant(["red hat"]), exclude=tf.constant([["i1"], ["i2"]]))
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match="exclude must hold at most 1024 item ids for each query",
    ):
        search(query=tf.constant(["red hat"]), exclude=tf.fill([1, 1025], "i1"))


def test_items_embed_as_in_training_and_must_be_utf8(loaded: Any, shop: Any) -> None:
    fields = {
        "title": tf.constant(["red shoe"]),
        "Brand__EU_": tf.constant(["ACME"]),
        "price": tf.constant([2.0]),
    }
    embedding = loaded.signatures["embed_item"](**fields)["embedding"].numpy()
    # A known brand makes the fake model's items a tenth longer.
    np.testing.assert_allclose(embedding[0], 1.1 * shop.corpus.embedding[0], rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid formatting"):
        loaded.signatures["embed_item"](**{**fields, "title": tf.constant([b"\xff"])})


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_catalogue_smaller_than_k_is_padded_with_nothing(
    shop_of: Callable[[list[str]], Any], tmp_path: Path, kind: str
) -> None:
    shop = shop_of(["blue hat", *["red shoe"] * 15])
    embedding = shop.corpus.embedding
    settings = ScannSettings(num_leaves=0, leaves_to_search=0, num_reorder=16)
    index = (
        ExactIndex(embedding)
        if kind == "exact"
        else ScannIndex(embedding, settings, k=18)
    )
    module = SearchModule(
        featurizer=shop.trained.featurizer,
        model=shop.trained.model,
        index=index,
        item_id=shop.corpus.item_id,
        k=18,
        attributes={},
    )
    save(module, str(tmp_path / "1"))
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    found = signatures["serving_default"](query=tf.constant(["blue hat"]))
    (item_id,) = found["item_id"].numpy().tolist()
    assert item_id[0] == b"i0"
    assert sorted(item_id[1:16]) == sorted(b"i%d" % n for n in range(1, 16))
    assert item_id[16:] == [b"", b""]
    assert found["score"].numpy()[0, 16:].tolist() == [-np.inf, -np.inf]
    found = signatures["search_excluding"](
        query=tf.constant(["blue hat"]), exclude=tf.constant([["i0"]])
    )
    (item_id,) = found["item_id"].numpy().tolist()
    assert b"i0" not in item_id
    assert item_id[15:] == [b"", b"", b""]


def test_column_names_that_tensorflow_refuses_are_replaced() -> None:
    names = input_names(["title", "price (EUR)", "price [EUR]", "2nd", "_x", "größe"])
    assert list(names.values()) == [
        "title",
        "price__EUR_",
        "price__EUR__2",
        "field_2nd",
        "field__x",
        "gr__e",
    ]
