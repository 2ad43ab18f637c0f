"""The two indexes over item embeddings, exact and ScaNN, behind one interface: the best rows for each query vector."""

import dataclasses
import math
import uuid
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfrs_mmse.cli import CommandError

# Pads a query's rows when fewer were found than asked for; its score is -inf.
NO_ROW = -1
# Rows scored at a time by the exact index, so that memory does not grow with batch x catalogue.
_BLOCK = 1 << 17


class Found(NamedTuple):
    """The best rows for each query, best first, padded with NO_ROW and -inf.

    Attributes:
        row: [B, n] int32 row numbers of the item embeddings.
        score: [B, n] float32 inner products.
    """

    row: tf.Tensor
    score: tf.Tensor


class Index(Protocol):
    """What the search signatures need of an index."""

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        """Finds the `num` rows with the largest inner product for each of `query` [B, D]; n = min(num, N)."""

    def release(self) -> None:
        """Frees what would outlive the loaded SavedModel."""


class ExactIndex(tf.Module):
    """Scores every item. It is the reference, and runs wherever TensorFlow runs.

    Ties go to the lower row. Time grows with the number of items, memory with batch x min(items, one block).
    """

    def __init__(self, embedding: np.ndarray, *, block: int = _BLOCK) -> None:
        """Keeps the embeddings in a variable, which no 2 GB limit of a graph binds.

        Args:
            embedding: [N, D] float32, N > 0.
            block: Rows scored at a time.
        """
        super().__init__()
        self._num_items, self._block = len(embedding), block
        self._embedding = tf.Variable(
            embedding, trainable=False, dtype=tf.float32, name="item_embedding"
        )

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        num = tf.minimum(num, self._num_items)
        if self._num_items <= self._block:
            score, row = tf.math.top_k(
                tf.linalg.matmul(query, self._embedding, transpose_b=True), num
            )
            return Found(row, score)
        nothing = tf.zeros([tf.shape(query)[0], 0])
        _, row, score = tf.while_loop(
            lambda start, row, score: start < self._num_items,
            lambda start, row, score: (
                start + self._block,
                *self._merge(query, num, start, Found(row, score)),
            ),
            (tf.constant(0), tf.cast(nothing, tf.int32), nothing),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, None]),
                tf.TensorShape([None, None]),
            ),
            parallel_iterations=1,
        )
        return Found(row, score)

    def release(self) -> None:
        """Nothing to do: the variable goes with the SavedModel."""

    def _merge(
        self, query: tf.Tensor, num: tf.Tensor, start: tf.Tensor, best: Found
    ) -> Found:
        block = self._embedding[start : start + self._block]
        score, row = tf.math.top_k(
            tf.linalg.matmul(query, block, transpose_b=True),
            tf.minimum(num, tf.shape(block)[0]),
        )
        # Lower rows stand first, so that top_k gives them the ties.
        rows = tf.concat([best.row, row + start], axis=1)
        score, place = tf.math.top_k(
            tf.concat([best.score, score], axis=1), tf.minimum(num, tf.shape(rows)[1])
        )
        return Found(tf.gather(rows, place, batch_dims=1), score)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScannSettings:
    """How ScaNN partitions and scores.

    Attributes:
        num_leaves: Partitions of the catalogue; 0 looks at every item.
        leaves_to_search: Partitions looked at for a query. More: better recall, more time.
        num_reorder: Candidates scored anew with full precision. More: better recall, more time. 0 scores every item
            with full precision (ScaNN's brute force), and leaves the rest unused.
        dimensions_per_block: Dimensions that share one quantisation code. More: less memory, worse recall.
        anisotropic_threshold: Cosine above which the error along the vector counts more in the quantisation.
    """

    num_leaves: int
    leaves_to_search: int
    num_reorder: int
    dimensions_per_block: int = 2
    anisotropic_threshold: float = 0.2


# ScaNN's own guidance (docs/algorithms.md there): below the one score every item as it is, below the other every item
# by its quantised form. A tree saves no time there, and with our embeddings, which are unit vectors of several grains
# side by side, it costs more recall than quantisation does.
BRUTE_FORCE_BELOW = 20_000
TREE_FROM = 100_000


def scann_settings(num_items: int, k: int) -> ScannSettings:
    """Settings by size of the catalogue: sqrt(N) leaves, a tenth of them searched, four candidates for each result.

    Args:
        num_items: Items in the catalogue.
        k: Results per query.
    """
    if num_items < BRUTE_FORCE_BELOW:
        return ScannSettings(num_leaves=0, leaves_to_search=0, num_reorder=0)
    num_leaves = round(math.sqrt(num_items)) if num_items >= TREE_FROM else 0
    return ScannSettings(
        num_leaves=num_leaves,
        leaves_to_search=num_leaves // 10,
        num_reorder=min(num_items, max(4 * k, 100)),
    )


class ScannIndex(tf.Module):
    """Approximate search with ScaNN's TensorFlow operations: a tree, quantised scores, exact scores for the best.

    The searcher lives in TensorFlow's resource manager under a name. The name is unique to each index: under ScaNN's
    default name, every index loaded into one process would answer with the first one's items.
    """

    def __init__(
        self, embedding: np.ndarray, settings: ScannSettings, *, k: int
    ) -> None:
        """Builds the index.

        Args:
            embedding: [N, D] float32, N > 0.
            settings: See there.
            k: Results per query for which the settings were chosen; a search for more fetches as many more candidates.

        Raises:
            CommandError: ScaNN is not installed, or not for this version of TensorFlow.
        """
        super().__init__()
        scann_ops = import_scann()
        builder = scann_ops.builder(embedding, min(k, len(embedding)), "dot_product")
        if settings.num_leaves:
            builder = builder.tree(
                num_leaves=settings.num_leaves,
                num_leaves_to_search=settings.leaves_to_search,
            )
        if settings.num_reorder:
            builder = builder.score_ah(
                settings.dimensions_per_block,
                anisotropic_quantization_threshold=settings.anisotropic_threshold,
            ).reorder(settings.num_reorder)
        else:
            builder = builder.score_brute_force()
        searcher = builder.build()
        self._state = searcher.serialize_to_module()
        tf.raw_ops.DestroyResourceOp(resource=searcher.searcher_handle)
        self._num_items, self._k = len(embedding), k
        self._name_in_process = f"scann-{uuid.uuid4().hex}"
        self.settings = settings

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        num = tf.minimum(num, self._num_items)
        # ScaNN refuses an empty batch: search for one zero vector and drop its answer.
        batch = tf.shape(query)[0]
        filler = tf.zeros([tf.cast(tf.equal(batch, 0), tf.int32), tf.shape(query)[1]])
        # Candidates beyond those that num_reorder was chosen for.
        extra = tf.maximum(num - self._k, 0)
        row, score = import_scann().scann_search_batched(
            self._handle(),
            tf.concat([query, filler], axis=0),
            num,
            self.settings.num_reorder + extra if self.settings.num_reorder else -1,
            self.settings.leaves_to_search if self.settings.num_leaves else -1,
            False,
        )
        # ScaNN pads with NaN and an arbitrary row.
        found = tf.logical_not(tf.math.is_nan(score))
        missing = [[0, 0], [0, num - tf.shape(row)[1]]]
        row = tf.pad(tf.where(found, row, NO_ROW), missing, constant_values=NO_ROW)
        score = tf.pad(
            tf.where(found, score, -math.inf), missing, constant_values=-math.inf
        )
        return Found(row[:batch], score[:batch])

    def release(self) -> None:
        """Frees the searcher; the next search would build it anew."""
        tf.raw_ops.DestroyResourceOp(resource=self._handle())

    def _handle(self) -> tf.Tensor:
        state = self._state
        return import_scann().tensors_to_scann(
            x=state.dataset,
            scann_config=state.scann_config,
            serialized_partitioner=state.serialized_partitioner,
            datapoint_to_token=state.datapoint_to_token,
            ah_codebook=state.ah_codebook,
            hashed_dataset=state.hashed_dataset,
            int8_dataset=state.int8_dataset,
            int8_multipliers=state.int8_multipliers,
            dp_norms=state.dp_norms,
            shared_name=self._name_in_process,
        )


def import_scann() -> ModuleType:
    """ScaNN's TensorFlow operations.

    Raises:
        CommandError: they are not installed, or were built for another version of TensorFlow.
    """
    try:
        from scann.scann_ops.py import scann_ops
    except (ImportError, tf.errors.NotFoundError) as e:
        reason = str(e).splitlines()[0]
        raise CommandError(
            f"ScaNN cannot be used with TensorFlow {tf.__version__} here ({reason}): "
            'install the pair that fits with pip install "tfrs-mmse[scann]", or use --index exact'
        ) from None
    return scann_ops
