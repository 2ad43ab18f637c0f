"""Joining requests into one and taking its answer apart: pure functions on arrays."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from serving.server.servable import Call, Signature
from tfrs_mmse import schema


def can_join(call: Call, signature: Signature) -> bool:
    """Whether a call's rows may stand among those of others: each input has one value or some text for every row."""
    by_row = all(
        spec.shape.rank == 1 or (spec.shape.rank == 2 and spec.dtype == tf.string)
        for spec in signature.inputs.values()
    )
    return by_row and len({len(array) for array in call.inputs}) == 1


def join(calls: Sequence[Call]) -> Call:
    """One call with the rows of all.

    Args:
        calls: At least one; of the same signature and the same outputs. Rows of text that differ in width are padded
            with "", which our signatures ignore.
    """
    first = calls[0]
    if len(calls) == 1:
        return first
    columns = zip(*(call.inputs for call in calls), strict=True)
    return first._replace(inputs=tuple(_concatenate(column) for column in columns))


def split(
    calls: Sequence[Call], outputs: Sequence[np.ndarray], signature: Signature
) -> list[list[np.ndarray]]:
    """The rows of each call, as if it had been computed alone.

    Args:
        calls: What was joined.
        outputs: Of the joined call, each with its rows first.
        signature: Theirs.
    """
    if len(calls) == 1:
        return [list(outputs)]
    answers, start = [], 0
    for call in calls:
        end = start + call.num_rows
        width = _width(call, signature)
        answers.append(
            [o[start:end] if o.ndim == 1 else o[start:end, :width] for o in outputs]
        )
        start = end
    return answers


def _concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    if arrays[0].ndim == 2:
        widest = max(array.shape[1] for array in arrays)
        arrays = [_pad(array, widest) for array in arrays]
    return np.concatenate(arrays)


def _pad(array: np.ndarray, width: int) -> np.ndarray:
    missing = width - array.shape[1]
    if not missing:
        return array
    padding = np.full((len(array), missing), b"", dtype=object)
    return np.concatenate([array, padding], axis=1)


def _width(call: Call, signature: Signature) -> int | None:
    """Columns of the call's answer alone: where it says how many results it wants, the most that a row of it wants."""
    if schema.K not in signature.inputs:
        return None
    k = call.inputs[list(signature.inputs).index(schema.K)]
    return int(k.max(initial=0))
