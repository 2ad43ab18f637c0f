"""The SavedModel's signatures: the three ways to search, and the two embeddings. Names are in `schema`."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from serving.index.filtered_search import FilteredSearch
from serving.index.filters import FilterTable, filterable
from serving.index.found import Found, Index
from serving.index.lookup import StringLookup, string_variable
from tfrs_mmse import schema, text
from tfrs_mmse.features import Featurizer

MAX_EXCLUDE = (
    1024  # ids that one query may exclude: each is compared with each candidate
)
MAX_K = 1000  # results that one query may ask `search_filtered` for

_QUERY = tf.TensorSpec([None], tf.string, name=schema.QUERY)
_EXCLUDE = tf.TensorSpec([None, None], tf.string, name=schema.EXCLUDE)
_FILTERED = {
    schema.QUERY: _QUERY,
    schema.K: tf.TensorSpec([None], tf.int32, name=schema.K),
    schema.EXCLUDE: _EXCLUDE,
    schema.FILTER: tf.TensorSpec([None, None], tf.string, name=schema.FILTER),
}


class Towers(Protocol):
    """What a trained model gives: embeddings whose inner product is the score, and the variables they depend on."""

    variables: list[tf.Variable]

    def query_embedding(self, ids: dict[str, tf.RaggedTensor]) -> tf.Tensor:
        """[B, D] float32 from `Featurizer.query`."""

    def item_embedding(self, ids: dict[str, tf.Tensor | tf.RaggedTensor]) -> tf.Tensor:
        """[B, D] float32 from `Featurizer.items`."""


class SearchModule(tf.Module):
    """Embeds query strings and returns each one's k best items, best first."""

    def __init__(
        self,
        *,
        featurizer: Featurizer,
        model: Towers,
        index: Index,
        item_id: np.ndarray | list[bytes],
        k: int,
        attributes: Mapping[str, np.ndarray],
    ) -> None:
        """Puts the parts together.

        Args:
            featurizer: From strings to ids.
            model: From ids to embeddings; only its variables are saved, no Keras object.
            index: Over the items' embeddings.
            item_id: [N] ids of the index's rows.
            k: Results per query of `search` and `search_excluding`.
            attributes: What `search_filtered` can filter on, see `Corpus`; names that hold an operator are left out.
        """
        super().__init__()
        self._featurizer, self._index, self._k = featurizer, index, k
        self._item_id = string_variable(item_id, schema.ITEM_ID)
        self._row_of = StringLookup(self._item_id)
        self.table = FilterTable(
            {n: v for n, v in attributes.items() if filterable(n)}, len(item_id)
        )
        self._filtered = FilteredSearch(index, self.table)
        self._model_variables = list(model.variables)
        self._query_embedding, self._item_embedding = (
            model.query_embedding,
            model.item_embedding,
        )

    @tf.function(input_signature=[_QUERY], autograph=False)
    def search(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best items of each query [B]: `item_id` [B, k], `score` [B, k], padded with "" and -inf."""
        found = self._index.search(self._embed(query), self._k)
        return self._result(self._ids(found), found.score)

    @tf.function(input_signature=[_QUERY, _EXCLUDE], autograph=False)
    def search_excluding(
        self, query: tf.Tensor, exclude: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """As `search`, without the ids that are named in the query's row of `exclude` [B, E], padded with ""."""
        width = tf.shape(exclude)[1]
        with tf.control_dependencies(_exclude_checks(query, exclude)):
            # At most E of the k + E best are excluded, so with an exact index the k best of the rest are among them.
            found = self._index.search(self._embed(query), self._k + width)
        item_id = self._ids(found)
        excluded = tf.reduce_any(item_id[:, :, None] == exclude[:, None, :], axis=2)
        score = tf.where(excluded, -np.inf, found.score)
        score, place = tf.math.top_k(score, tf.minimum(self._k, tf.shape(score)[1]))
        return self._result(tf.gather(item_id, place, batch_dims=1), score)

    def search_filtered(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best items inside each query's filter.

        Args:
            **inputs: `query` [B], `k` int32 [B], `exclude` [B, E] and `filter` [B, F] as `clauses.parse_clauses` reads
                them; both padded with "".

        Returns:
            `item_id` and `score` [B, max(k)], each row padded with "" and -inf beyond its own k or what there is;
            `num_matching` int64 [B]: items that pass the filter and are not excluded.
        """
        query, k = inputs[schema.QUERY], inputs[schema.K]
        exclude, clause = inputs[schema.EXCLUDE], inputs[schema.FILTER]
        checks = [
            *_exclude_checks(query, exclude),
            _one_each(schema.K, k, query, "value"),
            _one_each(schema.FILTER, clause, query, "row"),
            tf.debugging.Assert(
                tf.reduce_all((k >= 1) & (k <= MAX_K)),
                [f"k must be from 1 to {MAX_K} for each query"],
            ),
        ]
        with tf.control_dependencies(checks):
            query, k, exclude, clause = map(tf.identity, (query, k, exclude, clause))
        found, num_matching = self._filtered.search(
            self._embed(query), k, self._row_of(exclude), self.table.read(clause)
        )
        return {
            schema.ITEM_ID: self._ids(found),
            schema.SCORE: found.score,
            schema.NUM_MATCHING: num_matching,
        }

    @tf.function(input_signature=[_QUERY], autograph=False)
    def embed_query(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        """`embedding` [B, D] of each query [B]."""
        return {schema.EMBEDDING: self._embed(query)}

    def embed_item(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`embedding` [B, D] of items given by their raw fields, each [B], under the names of `input_names`."""
        names = input_names(self._featurizer.item_signature())
        fields = {column: _utf8(inputs[name]) for column, name in names.items()}
        return {schema.EMBEDDING: self._item_embedding(self._featurizer.items(fields))}

    @tf.function(input_signature=[], autograph=False)
    def release(self) -> None:
        """Frees what would outlive the loaded SavedModel; to be called when nobody searches any more."""
        self._index.release()

    def signatures(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """The signatures to save, by name."""
        specs = self._featurizer.item_signature()
        names = input_names(specs)
        inputs = {
            names[column]: tf.TensorSpec(spec.shape, spec.dtype, names[column])
            for column, spec in specs.items()
        }
        return {
            schema.SERVING_DEFAULT: self.search,
            schema.SEARCH_EXCLUDING: self.search_excluding,
            schema.SEARCH_FILTERED: tf.function(
                self.search_filtered, autograph=False
            ).get_concrete_function(**_FILTERED),
            schema.EMBED_QUERY: self.embed_query,
            schema.EMBED_ITEM: tf.function(
                self.embed_item, autograph=False
            ).get_concrete_function(**inputs),
        }

    def _embed(self, query: tf.Tensor) -> tf.Tensor:
        return self._query_embedding(self._featurizer.query(text.check_queries(query)))

    def _ids(self, found: Found) -> tf.Tensor:
        return tf.where(
            found.row >= 0, tf.gather(self._item_id, tf.maximum(found.row, 0)), ""
        )

    def _result(self, item_id: tf.Tensor, score: tf.Tensor) -> dict[str, tf.Tensor]:
        missing = [[0, 0], [0, self._k - tf.shape(score)[1]]]
        item_id = tf.pad(
            tf.where(score > -np.inf, item_id, ""), missing, constant_values=""
        )
        score = tf.pad(score, missing, constant_values=-np.inf)
        return {
            schema.ITEM_ID: tf.ensure_shape(item_id, [None, self._k]),
            schema.SCORE: tf.ensure_shape(score, [None, self._k]),
        }


def input_names(columns: Iterable[str]) -> dict[str, str]:
    """The name of each item column as an input of `embed_item`: the column's, with what TensorFlow refuses replaced.

    >>> input_names(["title", "price (EUR)", "price [EUR]"])
    {'title': 'title', 'price (EUR)': 'price__EUR_', 'price [EUR]': 'price__EUR__2'}
    """
    names: dict[str, str] = {}
    for column in columns:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
        plain = plain if plain[:1].isalpha() else f"field_{plain}"
        name, copies = plain, 1
        while name in names.values():
            copies += 1
            name = f"{plain}_{copies}"
        names[column] = name
    return names


def save(module: SearchModule, directory: str) -> None:
    """Writes the SavedModel."""
    tf.saved_model.save(module, directory, signatures=module.signatures())


def _exclude_checks(query: tf.Tensor, exclude: tf.Tensor) -> list[tf.Operation]:
    few = tf.debugging.assert_less_equal(
        tf.shape(exclude)[1],
        MAX_EXCLUDE,
        message=f"exclude must hold at most {MAX_EXCLUDE} item ids for each query",
    )
    return [_one_each(schema.EXCLUDE, exclude, query, "row"), few]


def _one_each(
    name: str, values: tf.Tensor, query: tf.Tensor, what: str
) -> tf.Operation:
    return tf.debugging.assert_equal(
        tf.shape(values)[0],
        tf.shape(query)[0],
        message=f"{name} must have one {what} for each query",
    )


def _utf8(values: tf.Tensor) -> tf.Tensor:
    if values.dtype != tf.string:
        return values
    return tf.strings.unicode_transcode(values, "UTF-8", "UTF-8", errors="strict")
