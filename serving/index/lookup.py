"""From strings to their numbers, by binary search in variables: no size of a catalogue is too large for the graph."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_FINGERPRINTS = 2**63 - 1
NOT_FOUND = -1


class StringLookup(tf.Module):
    """Finds strings among distinct ones.

    A table of TensorFlow's would keep its entries in the graph, which must not exceed 2 GB, or in a file of its own.
    """

    def __init__(self, strings: tf.Variable) -> None:
        """Sorts the fingerprints of the strings.

        Args:
            strings: [V] distinct strings, V > 0; kept, not copied.
        """
        super().__init__()
        self._strings = strings
        key = _fingerprint(strings).numpy()
        order = np.argsort(key, kind="stable")
        key = key[order]
        self._key = tf.Variable(key, trainable=False, name="fingerprint")
        self._number = tf.Variable(
            order.astype(np.int32), trainable=False, name="number_of_fingerprint"
        )
        # Strings that share a fingerprint stand side by side: practically none do, but none is lost.
        self._copies = int(np.unique(key, return_counts=True)[1].max())

    def __call__(self, wanted: tf.Tensor) -> tf.Tensor:
        """[...] int32: the place of each of `wanted` [...] in the strings, or NOT_FOUND."""
        key = tf.reshape(_fingerprint(wanted), [-1])
        first = tf.reshape(tf.searchsorted(self._key, key), tf.shape(wanted))
        last = self._key.shape[0] - 1
        found = tf.fill(tf.shape(wanted), NOT_FOUND)
        for copy in range(self._copies):
            number = tf.gather(self._number, tf.minimum(first + copy, last))
            is_it = tf.equal(tf.gather(self._strings, number), wanted)
            found = tf.where(is_it, number, found)
        return found


def string_variable(strings: Sequence[bytes] | np.ndarray, name: str) -> tf.Variable:
    """A variable of strings, which are saved beside the graph and not in it."""
    return tf.Variable(list(strings), trainable=False, dtype=tf.string, name=name)


def _fingerprint(strings: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(strings, _FINGERPRINTS)
