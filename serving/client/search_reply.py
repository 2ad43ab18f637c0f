"""What is answered: the hits of each query, read from a `PredictResponse`."""

import array
import functools
import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from serving.client.search_error import SearchError
from serving.client.stubs import (
    DT_FLOAT,
    DT_INT64,
    DT_STRING,
    PredictResponse,
    TensorProto,
)
from tfrs_mmse import schema

_FIELDS = {DT_STRING: "string_val", DT_FLOAT: "float_val", DT_INT64: "int64_val"}
_TYPECODES = {DT_FLOAT: "f", DT_INT64: "q"}  # of `array`, for tensor_content


class Hit(NamedTuple):
    """One found item and its score."""

    item_id: str
    score: float


_hit = functools.partial(tuple.__new__, Hit)  # without a step of Python for each


class QueryResult(NamedTuple):
    """What one query found.

    Attributes:
        query: The query, as it was asked.
        hits: Best first.
        num_matching: How many items the filters and exclusions leave, or None where the server was not asked to count.
    """

    query: str
    hits: list[Hit]
    num_matching: int | None


class SearchReply(NamedTuple):
    """One search's answer.

    Attributes:
        version: The version of the model that answered.
        results: One for each query, in their order.
    """

    version: int
    results: list[QueryResult]


def width(message: PredictResponse) -> int:
    """Results per query that a reply has room for, padding included."""
    shape = _shape(message.outputs.get(schema.ITEM_ID, TensorProto()))
    return shape[-1] if shape else 0


def read_reply(message: PredictResponse, queries: Sequence[str], k: int) -> SearchReply:
    """The k best of each row, in whichever of its fields the server put the values.

    Raises:
        SearchError: it is not what a search signature answers.
    """
    rows, columns, counts = len(queries), width(message), [None] * len(queries)
    try:
        item_id = _values(message, schema.ITEM_ID, DT_STRING, [rows, columns])
        score = _values(message, schema.SCORE, DT_FLOAT, [rows, columns])
        if schema.NUM_MATCHING in message.outputs:
            counts = _values(message, schema.NUM_MATCHING, DT_INT64, [rows])
        results = []
        for row, (query, count) in enumerate(zip(queries, counts, strict=True)):
            start = row * columns
            ids = item_id[start : start + min(k, columns)]
            if b"" in ids:  # padding, from there on
                ids = ids[: ids.index(b"")]
            pairs = zip(
                map(bytes.decode, ids), score[start : start + len(ids)], strict=True
            )
            hits = map(_hit, pairs)
            results.append(QueryResult(query, list(hits), count))
    except ValueError as e:
        raise SearchError(
            f"the model did not answer with {schema.ITEM_ID} and {schema.SCORE} for {rows} queries ({e}): "
            "was it written by serving.export?"
        ) from None
    return SearchReply(message.model_spec.version.value, results)


def _shape(tensor: TensorProto) -> list[int]:
    return [dim.size for dim in tensor.tensor_shape.dim]


def _values(
    message: PredictResponse, name: str, dtype: int, shape: list[int]
) -> list[Any]:
    """The values of one output, flat."""
    if name not in message.outputs:  # looking it up would add it
        raise ValueError(f"there is no {name}")
    tensor, size = message.outputs[name], math.prod(shape)
    if tensor.dtype != dtype or _shape(tensor) != shape:
        raise ValueError(f"{name} is of shape {_shape(tensor)} and type {tensor.dtype}")
    if not tensor.tensor_content:
        values = list(getattr(tensor, _FIELDS[dtype]))
        # A last value that repeats may be there only once.
        values += values[-1:] * (size - len(values))
    elif dtype == DT_STRING:
        values = _unpack_strings(tensor.tensor_content, size)
    else:
        values = array.array(_TYPECODES[dtype], tensor.tensor_content).tolist()
    if len(values) != size:
        raise ValueError(f"{name} holds {len(values)} values instead of {size}")
    return values


def _unpack_strings(content: bytes, size: int) -> list[bytes]:
    """TensorFlow's form of string tensors in `tensor_content`: all lengths as varints, then all bytes."""
    lengths, place = list(content[:size]), size
    if max(lengths, default=0) >= 0x80:  # one of them takes more than a byte
        lengths, place = [], 0
        while len(lengths) < size:
            length = shift = 0
            while True:
                byte = content[place : place + 1]
                if not byte or shift > 28:
                    raise ValueError("the strings' lengths are cut short")
                place += 1
                length |= (byte[0] & 0x7F) << shift
                shift += 7
                if byte[0] < 0x80:
                    break
            lengths.append(length)
    ends = [place, *accumulate(lengths, initial=place)][1:]
    if len(lengths) != size or ends[-1] != len(content):
        raise ValueError("the strings are cut short")
    return [content[start:end] for start, end in pairwise(ends)]
