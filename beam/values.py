"""The rules for single values of a log: what is taken, as what, and for what reason it is rejected."""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

from beam.accounting import Rejected, RejectedRow
from beam.batches import Column
from tfrs_mmse import schema

_MAX_POSITION = 2**31
_MAX_EXACT = 2.0**63
_MAX_FLOAT32 = 3.4e38
_YES = frozenset(("1", "true", "t", "yes", "y"))
_INVISIBLE = "\u115f\u1160\u3164\uffa0"  # fillers of Hangul: letters that are not there
_NO = frozenset(("0", "false", "f", "no", "n", ""))


Results: TypeAlias = Sequence[Any] | pl.Series


def each(rule: Callable[[Any], Any], values: Column | Iterable[Any]) -> Results:
    """What a rule makes of each value, None where it rejects it or where the value may not be what was written.

    Equal values of one type are looked at once.
    """
    if not isinstance(values, pa.Array):
        return _each(rule, values)
    distinct = values.dictionary_encode()
    results = _each(rule, [*distinct.dictionary.to_pylist(), None])
    index = pl.Series(distinct.indices.fill_null(len(results) - 1))
    return pl.Series(results).gather(index)


def _each(rule: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    known: dict[Any, Any] = {}
    results = []
    for value in values:
        try:
            results.append(known[value.__class__, value])
        except KeyError:
            known[value.__class__, value] = result = _accepted(rule, value)
            results.append(result)
        except TypeError:  # a list has no hash
            results.append(_accepted(rule, value))
    return results


def _accepted(rule: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, float) and abs(value) >= _MAX_EXACT:
        return None  # maybe a whole number that the fast JSON parser rounded: the row as it was written decides
    try:
        return rule(value)
    except RejectedRow:
        return None


def is_missing(value: Any) -> bool:
    """Whether there is no value: pandas writes NaN for it, and CSV nothing."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def text_value(value: Any, reason: Rejected) -> str:
    """A value as text: None is "", numbers as they print, a list's parts joined by spaces.

    Raises:
        RejectedRow: for `reason` when it is something else, for `not_utf8` when UTF-8 cannot hold it.
    """
    match value:
        case str():
            text = value
        case None:
            return ""
        case bool():
            text = str(value).lower()
        case float() if math.isnan(value):
            return ""
        case float() if value.is_integer() and abs(value) < _MAX_EXACT:
            text = str(int(value))  # pandas writes 5 as 5.0 where a value is missing
        case int() | float():
            text = str(value)
        case bytes():
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                raise RejectedRow(Rejected.NOT_UTF8) from None
        case list() | tuple():
            try:
                text = " ".join(text_value(part, reason) for part in value)
            except RecursionError:
                raise RejectedRow(reason) from None
        case _:
            raise RejectedRow(reason)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except (
            UnicodeEncodeError
        ):  # half of a surrogate pair, which JSON can write and UTF-8 cannot
            raise RejectedRow(Rejected.NOT_UTF8) from None
    return text


def id_value(value: Any, reason: Rejected) -> str:
    """An id: a string or an integer; "" where it is missing.

    Raises:
        RejectedRow: for `reason` when it is blank or something else.
    """
    if is_missing(value):
        return ""
    if type(value) not in (str, int, bytes):
        raise RejectedRow(reason)
    text = text_value(value, reason)
    if text.isspace():
        raise RejectedRow(reason)
    return text


def query_value(value: Any) -> str:
    """`""` where it is missing; otherwise a query that `text.check_queries` takes."""
    if isinstance(value, list | tuple | bool):
        raise RejectedRow(Rejected.BAD_QUERY)
    query = text_value(value, Rejected.BAD_QUERY)
    if not query:
        return ""
    if (
        len(query) > schema.MAX_QUERY_BYTES
        or len(query.encode("utf-8")) > schema.MAX_QUERY_BYTES
    ):
        raise RejectedRow(Rejected.QUERY_TOO_LONG)
    if not has_word(query):
        raise RejectedRow(Rejected.EMPTY_QUERY)
    return query


def has_word(query: str) -> bool:
    """Whether there is a letter or a digit, of any script, in it."""
    return any(
        unicodedata.category(c)[0] in "LN" and c not in _INVISIBLE for c in query
    )


def position_value(value: Any) -> int:
    """A 0-based position; -1 where it is missing."""
    if is_missing(value):
        return -1
    try:
        number = (
            float(value)
            if isinstance(value, int | float | str) and not isinstance(value, bool)
            else -1.0
        )
    except (ValueError, OverflowError):
        number = -1.0
    if not (0 <= number < _MAX_POSITION and number.is_integer()):
        raise RejectedRow(Rejected.BAD_POSITION)
    return int(number)


def flag_value(value: Any) -> bool:
    """Whether something happened: a boolean, a word for one, or how often; False where it is missing."""
    if is_missing(value):
        return False
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RejectedRow(Rejected.BAD_FLAG) from None
    if not 0 <= number < math.inf:
        raise RejectedRow(Rejected.BAD_FLAG)
    return number > 0


def number_value(value: Any) -> float:
    """A number that a 32-bit float can hold; NaN where it is missing."""
    if is_missing(value):
        return math.nan
    if isinstance(value, bool | list | tuple | dict):
        raise RejectedRow(Rejected.BAD_NUMBER)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RejectedRow(Rejected.BAD_NUMBER) from None
    if abs(number) > _MAX_FLOAT32:
        raise RejectedRow(Rejected.BAD_NUMBER)
    return number
