"""`tf.train.Example` in columns: the records of many requests at once, from bytes that are made once and used often.

In the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding) the numbers of a list stand
one after the other, and so do its strings, each with its tag and length. What an item adds to the lists of a request is
therefore a piece of bytes, the same in every request that shows it; and what all items of a request add is one run of
the pieces of all slots. So no Python object is made for a slot or a token, and Arrow puts the records together.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

# Tags: the number of the field, shifted by three, and 2 for "length-delimited". See tensorflow/core/example/*.proto.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
_VARINT_BITS = 7
_MAX_VARINT = 10  # bytes of a 64-bit number
_BYTES = pa.large_binary()
_NOTHING = pa.scalar(b"", _BYTES)


def varints(numbers: pl.Series) -> pl.Series:
    """The bytes of each row's integers: a Binary column from one of integers or of lists of them."""
    if isinstance(numbers.dtype, pl.List):
        ends = _ends(numbers)
        numbers = numbers.explode(empty_as_null=False)
    else:
        ends = np.arange(1, len(numbers) + 1)
    array = _varints(numbers.cast(pl.Int64).to_numpy(), ends)
    return pl.Series(numbers.name, pl.from_arrow(array), pl.Binary)


def _varints(values: np.ndarray, ends: np.ndarray) -> Any:
    """The varints of 64-bit integers, those up to each of these ends as one element: a large_binary array."""
    # A negative number is written as the unsigned one of the same bits.
    values = values.view(np.uint64)
    sizes = _varint_sizes(values)
    starts = np.cumsum(sizes) - sizes
    data = np.empty(sizes.sum(), np.uint8)
    left = np.arange(len(values))  # those that have a byte at this place
    for place in range(sizes.max(initial=0)):
        left = left[sizes[left] > place]
        byte = (values[left] >> np.uint64(_VARINT_BITS * place)) & np.uint64(0x7F)
        has_more = (sizes[left] > place + 1).astype(np.uint64)
        data[starts[left] + place] = byte | (has_more << np.uint64(_VARINT_BITS))
    return _array(np.append(0, np.append(0, np.cumsum(sizes))[ends]), data)


def _varint_sizes(values: np.ndarray) -> np.ndarray:
    sizes = np.ones(len(values), np.int64)
    for size in range(1, _MAX_VARINT):
        sizes += values >= np.uint64(1 << (_VARINT_BITS * size))
    return sizes


def floats(numbers: pl.Series) -> pl.Series:
    """The bytes of each row's 32-bit float: a Binary column."""
    data = numbers.cast(pl.Float32).to_numpy().astype("<f4").view(np.uint8)
    array = _array(4 * np.arange(len(numbers) + 1), data)
    return pl.Series(numbers.name, pl.from_arrow(array), pl.Binary)


def strings(texts: pl.Series) -> pl.Series:
    """The bytes of each row's string or list of strings: a Binary column."""
    is_list = isinstance(texts.dtype, pl.List)
    each = texts.explode(empty_as_null=False) if is_list else texts
    column = each.cast(pl.Binary).to_arrow().cast(_BYTES)
    pieces = _joined(_field(_FIELD_1, _message(column)))
    if is_list:
        pieces = runs(pl.Series(pieces), _ends(texts))
    return pl.Series(texts.name, pl.from_arrow(pieces), pl.Binary)


def runs(pieces: pl.Series, ends: np.ndarray) -> Any:
    """The bytes of the rows up to each of these ends, the former one excluded: a large_binary array, without a copy.

    Args:
        pieces: A Binary column.
        ends: int64 [N], ascending.
    """
    array = pieces.rechunk().to_arrow().cast(_BYTES)
    _, offsets, data = array.buffers()
    offsets = np.frombuffer(offsets, np.int64)[array.offset :]
    return _array(offsets[np.append(0, ends)], b"" if data is None else data)


def _ends(lists: pl.Series) -> np.ndarray:
    """Where the lists end, one after the other: int64."""
    return lists.list.len().cast(pl.Int64).cum_sum().to_numpy()


def _array(offsets: np.ndarray, data: Any) -> Any:
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(_BYTES, len(offsets) - 1, buffers)


class Messages(NamedTuple):
    """A column of encoded messages.

    Attributes:
        parts: The parts of each message, in their order: large_binary arrays, and scalars that all messages have.
        sizes: int64 [N]: bytes of each message.
    """

    parts: list[Any]
    sizes: np.ndarray


def strings_feature(pieces: Any) -> Messages:
    """A `Feature` with a list of strings, from runs of `strings`."""
    return _field(_FIELD_1, _message(pieces))


def floats_feature(pieces: Any) -> Messages:
    """A `Feature` with a list of floats, from runs of `floats`."""
    return _field(_FIELD_2, _packed(pieces))


def ints_feature(pieces: Any) -> Messages:
    """A `Feature` with a list of integers, from runs of `varints`."""
    return _field(_FIELD_3, _packed(pieces))


def examples(features: Mapping[str, Messages]) -> Any:
    """An `Example` for each row of these features, name -> `Feature`: a large_binary array."""
    entries = [_entry(name, feature) for name, feature in features.items()]
    parts = [part for entry in entries for part in entry.parts]
    sizes = np.sum([entry.sizes for entry in entries], axis=0)
    return _joined(_field(_FIELD_1, Messages(parts, sizes)))


def _entry(name: str, feature: Messages) -> Messages:
    """An entry of the map of features, in the list that the map is on the wire."""
    key = name.encode("utf-8")
    (size,) = _varints(np.array([len(key)]), np.array([1])).to_pylist()
    head = _FIELD_1 + size + key
    value = _field(_FIELD_2, feature)
    content = Messages([pa.scalar(head, _BYTES), *value.parts], value.sizes + len(head))
    return _field(_FIELD_1, content)


def _message(pieces: Any) -> Messages:
    return Messages([pieces], pc.binary_length(pieces).to_numpy())


def _packed(pieces: Any) -> Messages:
    """The one field of a list of numbers, which is left out where the list is empty."""
    message = _message(pieces)
    tag, size, *_ = _field(_FIELD_1, message).parts
    head = pc.if_else(
        message.sizes > 0, pc.binary_join_element_wise(tag, size, _NOTHING), _NOTHING
    )
    return Messages([head, pieces], message.sizes + pc.binary_length(head).to_numpy())


def _field(tag: bytes, content: Messages) -> Messages:
    """A length-delimited field."""
    rows = np.arange(1, len(content.sizes) + 1)
    size = _varints(content.sizes, rows)
    sizes = len(tag) + _varint_sizes(content.sizes.view(np.uint64)) + content.sizes
    return Messages([pa.scalar(tag, _BYTES), size, *content.parts], sizes)


def _joined(messages: Messages) -> Any:
    return pc.binary_join_element_wise(*messages.parts, _NOTHING)
