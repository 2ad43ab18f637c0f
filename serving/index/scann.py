"""Approximate search by ScaNN."""

import math
import uuid
from types import ModuleType

import numpy as np
import tensorflow as tf

from serving.index.found import NO_ROW, Found
from serving.index.item_vectors import item_variable
from serving.index.scann_build import ScannParts, ScannSettings, build
from tfrs_mmse.cli import CommandError


class ScannIndex(tf.Module):
    """Approximate search: ScaNN finds candidates by their quantised vectors, and scores the best of them exactly.

    Its searcher copies the embeddings, so that an index that has been searched holds them twice. Scored in the graph
    instead, from the one variable, candidates cost more than finding them.

    The searcher lives in TensorFlow's resource manager under a name. The name is unique to each index: under ScaNN's
    default name, every index loaded into one process would answer with the first one's items.

    Attributes:
        settings: Those that matter at query time may be replaced.
    """

    scores_all = False

    def __init__(
        self,
        embedding: np.ndarray | tf.Variable,
        settings: ScannSettings,
        *,
        k: int,
        parts: ScannParts | None = None,
    ) -> None:
        """Puts an index together.

        Args:
            embedding: [N, D] float32, N >= `scann_build.MIN_ITEMS`.
            settings: See there.
            k: Results per query for which the settings were chosen; a search for more fetches as many more candidates.
            parts: What was built from these embeddings, with these settings as far as a build knows them; None builds.

        Raises:
            CommandError: ScaNN is not installed, or not for this version of TensorFlow, or cannot build the index.
        """
        super().__init__()
        import_scann()
        if parts is None:
            array = (
                embedding.numpy() if isinstance(embedding, tf.Variable) else embedding
            )
            parts = build(array, settings)
        self.embedding = item_variable(embedding)
        self._num_items, self._dimensions = self.embedding.shape
        self._k, self.settings = k, settings
        self._parts = [
            tf.Variable(part, trainable=False, name=name)
            for name, part in parts._asdict().items()
        ]
        self._name_in_process = f"scann-{uuid.uuid4().hex}"

    def search(self, query: tf.Tensor, num: tf.Tensor | int) -> Found:
        num = tf.minimum(num, self._num_items)
        candidates, leaves = self._effort(num)
        # ScaNN refuses an empty batch: search for one zero vector and drop its answer.
        batch = tf.shape(query)[0]
        filler = tf.zeros([tf.cast(tf.equal(batch, 0), tf.int32), self._dimensions])
        row, score = import_scann().scann_search_batched(
            self._handle(),
            tf.concat([query, filler], axis=0),
            num,
            candidates,
            leaves if self.settings.num_leaves else -1,
            False,  # its threads share out pieces of 256 queries, and are started for each call
        )
        # It pads with NaN and an arbitrary row.
        row, score = row[:batch], score[:batch]
        missing = tf.math.is_nan(score)
        return Found(
            tf.ensure_shape(tf.where(missing, NO_ROW, row), [None, None]),
            tf.ensure_shape(tf.where(missing, -math.inf, score), [None, None]),
        )

    def release(self) -> None:
        """Frees the searcher; the next search would build it anew."""
        tf.raw_ops.DestroyResourceOp(resource=self._handle())

    def _effort(self, num: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Candidates and leaves to search for `num` results: more than the settings say, beyond the k they are for.

        How much more was found by measuring (200,000 items of a simulated shop, 256 dimensions): so that recall@num
        stays about what recall@k is.
        """
        times = tf.maximum(tf.cast(num, tf.float32) / self._k, 1.0)
        settings = self.settings
        candidates = tf.math.ceil(settings.num_reorder * times**0.8)
        leaves = tf.math.ceil(settings.leaves_to_search * times**0.3)
        return (
            tf.clip_by_value(tf.cast(candidates, tf.int32), num, self._num_items),
            tf.minimum(tf.cast(leaves, tf.int32), settings.num_leaves),
        )

    def _handle(self) -> tf.Tensor:
        config, partitioner, token, codebook, codes = self._parts
        return import_scann().tensors_to_scann(
            x=self.embedding.read_value(),
            scann_config=config,
            serialized_partitioner=partitioner,
            datapoint_to_token=token,
            ah_codebook=codebook,
            hashed_dataset=codes,
            # Scalars stand for what this kind of index does not have.
            int8_dataset=tf.zeros([], tf.int8),
            int8_multipliers=tf.zeros([]),
            dp_norms=tf.zeros([]),
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
