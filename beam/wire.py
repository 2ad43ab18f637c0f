"""`tf.train.Example` from bytes that are made once and used often.

In the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding) the numbers of a list stand
one after the other, and so do its strings, each with its tag and length. What an item adds to the lists of a request is
therefore a piece of bytes, the same in every request that shows it; and what all items of a request add is one slice of
the pieces of all slots. So no Python object is made for a slot, let alone for a token.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

# Tags: the number of the field, shifted by three, and 2 for "length-delimited". See tensorflow/core/example/*.proto.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
_VARINT_BITS = 7
_MAX_VARINT = 10  # bytes of a 64-bit number


def varints(numbers: pl.Series) -> pl.Series:
    """The bytes of each row's integers: a Binary column from one of integers or of lists of them."""
    if isinstance(numbers.dtype, pl.List):
        lengths = numbers.list.len().to_numpy()
        numbers = numbers.explode(empty_as_null=False)
    else:
        lengths = np.ones(len(numbers), np.int64)
    # Negative numbers are written as the 64-bit ones of the same bits.
    values = numbers.cast(pl.Int64).to_numpy().view(np.uint64)
    sizes = np.ones(len(values), np.int64)
    for size in range(1, _MAX_VARINT):
        sizes += values >= np.uint64(1 << (_VARINT_BITS * size))
    starts = np.cumsum(sizes) - sizes
    data = np.empty(sizes.sum(), np.uint8)
    left = np.arange(len(values))  # those that have a byte at this place
    for place in range(sizes.max(initial=0)):
        left = left[sizes[left] > place]
        byte = (values[left] >> np.uint64(_VARINT_BITS * place)) & np.uint64(0x7F)
        has_more = (sizes[left] > place + 1).astype(np.uint64)
        data[starts[left] + place] = byte | (has_more << np.uint64(_VARINT_BITS))
    ends = np.append(0, np.cumsum(sizes))[np.cumsum(lengths)]
    return _pieces(numbers.name, data, ends)


def floats(numbers: pl.Series) -> pl.Series:
    """The bytes of each row's 32-bit float: a Binary column."""
    data = numbers.cast(pl.Float32).to_numpy().astype("<f4").view(np.uint8)
    return _pieces(numbers.name, data, 4 * np.arange(1, len(numbers) + 1))


def strings(texts: pl.Series) -> pl.Series:
    """The bytes of each row's string or list of strings: a Binary column."""
    if isinstance(texts.dtype, pl.List):
        pieces = [b"".join(map(_string, row)) for row in texts.to_list()]
        return pl.Series(texts.name, pieces, pl.Binary)
    sizes = texts.str.len_bytes()
    if (sizes >= len(_SHORT)).any():
        return pl.Series(texts.name, map(_string, texts.to_list()), pl.Binary)
    # A size of one byte is a character, so that the pieces are strings themselves.
    heads = pl.Series([(_FIELD_1 + size).decode() for size in _SHORT])
    joined = pl.select(pl.concat_str(heads.gather(sizes), texts))[:, 0]
    return joined.cast(pl.Binary).alias(texts.name)


def _string(text: str) -> bytes:
    return _field(_FIELD_1, text.encode("utf-8"))


def _pieces(name: str, data: np.ndarray, ends: np.ndarray) -> pl.Series:
    offsets = np.append(0, ends).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers)
    return pl.Series(name, pl.from_arrow(array), pl.Binary)


class Pieces:
    """A Binary column of which any run of rows is one slice of bytes."""

    def __init__(self, column: pl.Series) -> None:
        array: Any = column.rechunk().to_arrow().cast(pa.large_binary())
        _, offsets, data = array.buffers()
        rows = slice(array.offset, array.offset + len(array) + 1)
        self._offsets = np.frombuffer(offsets, np.int64)[rows].tolist()
        self._data = memoryview(data or b"")

    def run(self, begin: int, end: int) -> bytes:
        """The bytes of rows `begin` to `end`."""
        return bytes(self._data[self._offsets[begin] : self._offsets[end]])


def strings_feature(pieces: bytes) -> bytes:
    """A `Feature` with a list of strings, from their `strings`."""
    return _field(_FIELD_1, pieces)


def floats_feature(pieces: bytes) -> bytes:
    """A `Feature` with a list of floats, from their `floats`."""
    return _field(_FIELD_2, _packed(pieces))


def ints_feature(pieces: bytes) -> bytes:
    """A `Feature` with a list of integers, from their `varints`."""
    return _field(_FIELD_3, _packed(pieces))


def example(features: Mapping[str, bytes]) -> bytes:
    """An `Example`: name -> `Feature`, in the order of the names."""
    entries = [
        _field(_FIELD_1, _key(name) + _field(_FIELD_2, features[name]))
        for name in sorted(features)
    ]
    return _field(_FIELD_1, b"".join(entries))


@functools.cache
def _key(name: str) -> bytes:
    return _string(name)


def _packed(pieces: bytes) -> bytes:
    return _field(_FIELD_1, pieces) if pieces else b""


def _field(tag: bytes, content: bytes) -> bytes:
    return b"%b%b%b" % (tag, _varint(len(content)), content)


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SHORT[number]
    head = bytearray()
    while number >= 0x80:
        head.append(number & 0x7F | 0x80)
        number >>= _VARINT_BITS
    head.append(number)
    return bytes(head)


_SHORT = [bytes([number]) for number in range(0x80)]
