"""What an index is, and what it finds."""

from typing import NamedTuple, Protocol

import tensorflow as tf

# Pads a query's rows when fewer were found than asked for; its score is -inf.
NO_ROW = -1


class Found(NamedTuple):
    """The best rows for each query, best first, padded with NO_ROW and -inf.

    Attributes:
        row: [B, n] int32 row numbers of the item embeddings.
        score: [B, n] float32 inner products.
    """

    row: tf.Tensor
    score: tf.Tensor


class Index(Protocol):
    """What the search signatures need of an index.

    Attributes:
        embedding: [N, D] float32, the items' vectors; row numbers are of these.
        scores_all: Whether a search scores every item, so that more results take hardly more time.
    """

    embedding: tf.Variable
    scores_all: bool

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        """Finds the `num` rows with the largest inner product for each of `query` [B, D]; n = min(num, N)."""

    def release(self) -> None:
        """Frees what would outlive the loaded SavedModel."""
