"""From raw fields to the ids of every grain: one function for preprocessing, training and serving."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from tfrs_mmse import schema, text

_NO_ENTRY = "\n"  # stands in an empty vocabulary, which TensorFlow's tables refuse; no token or value holds it


def read_vocabularies(
    directory: Path, grains: Sequence[schema.Grain]
) -> dict[str, list[str]]:
    """Reads `vocab/GRAIN.txt` of an examples' directory: entries by grain name, in the order of their ids."""
    folder = directory / schema.VOCABULARY_DIR
    # Not splitlines(), which would also split at the rarer Unicode line breaks.
    return {
        g.name: (folder / f"{g.name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        for g in grains
    }


class Featurizer(tf.Module):
    """Looks up the tokens and attributes of queries and items in the vocabularies.

    The n-th entry of a vocabulary (from 1) has id n, and id 0 is everything else. For a number the entries are the
    inner bucket boundaries, ascending: id n means that n - 1 boundaries are <= the value, and id 0 that it is missing.
    """

    def __init__(
        self, spec: schema.FeatureSpec, vocabularies: Mapping[str, Sequence[str]]
    ) -> None:
        """Builds the lookup tables.

        Args:
            spec: Names the grains and fields; the sizes in it are not used.
            vocabularies: Entries of each grain by its name.
        """
        super().__init__()
        self.spec = spec
        self._tables: dict[str, tf.lookup.StaticHashTable] = {}
        self._boundaries: dict[str, tf.Tensor] = {}
        for grain in spec.grains:
            entries = list(vocabularies[grain.name])
            if grain.kind is schema.GrainKind.NUMBER:
                self._boundaries[grain.name] = tf.constant(
                    [float(entry) for entry in entries], tf.float32
                )
            else:
                keys = tf.constant(entries or [_NO_ENTRY], tf.string)
                ids = tf.range(1, tf.size(keys, tf.int64) + 1)
                initializer = tf.lookup.KeyValueTensorInitializer(keys, ids)
                self._tables[grain.name] = tf.lookup.StaticHashTable(
                    initializer, default_value=0
                )

    def query(self, query: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        """Ids of each text grain, int64 [B, (tokens)], by grain name.

        Args:
            query: [B] raw or folded query strings.
        """
        return self._lookup_text(query, self.spec.max_query_words)

    def items(
        self, fields: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Ids of every grain by grain name: int64 [B, F, (tokens)] for F text fields, int64 [B] for an attribute.

        Args:
            fields: For each text field and categorical column a [B] string tensor (`""` where it is missing), for
                each number column a [B] float32 tensor (NaN where it is missing).
        """
        columns = [fields[name] for name in self.spec.text_fields]
        by_field = self._lookup_text(
            tf.reshape(tf.stack(columns, axis=1), [-1]), self.spec.max_field_words
        )
        ids: dict[str, tf.Tensor | tf.RaggedTensor] = {
            name: tf.RaggedTensor.from_uniform_row_length(tokens, len(columns))
            for name, tokens in by_field.items()
        }
        for grain in self.spec.attribute_grains:
            ids[grain.name] = self._lookup_attribute(grain, fields[grain.name])
        return ids

    def item_signature(self) -> dict[str, tf.TensorSpec]:
        """The raw fields that `items` takes, as tensor specs with batch dimension None."""
        dtypes = dict.fromkeys(self.spec.text_fields, tf.string)
        for grain in self.spec.attribute_grains:
            dtypes[grain.name] = (
                tf.float32 if grain.kind is schema.GrainKind.NUMBER else tf.string
            )
        return {
            name: tf.TensorSpec([None], dtype, name=name)
            for name, dtype in dtypes.items()
        }

    def _lookup_text(
        self, texts: tf.Tensor, max_words: int
    ) -> dict[str, tf.RaggedTensor]:
        grains = text.text_grains(text.fold(texts), max_words=max_words)
        names = [g.name for g in self.spec.text_grains]
        return {
            name: tf.ragged.map_flat_values(self._tables[name].lookup, grains[name])
            for name in names
        }

    def _lookup_attribute(self, grain: schema.Grain, values: tf.Tensor) -> tf.Tensor:
        if grain.kind is schema.GrainKind.CATEGORICAL:
            return self._tables[grain.name].lookup(text.folded_key(values))
        buckets = (
            tf.searchsorted(
                self._boundaries[grain.name], values, side="right", out_type=tf.int64
            )
            + 1
        )
        return tf.where(tf.math.is_nan(values), tf.zeros_like(buckets), buckets)
