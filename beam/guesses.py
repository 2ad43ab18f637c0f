"""Guesses at what a shop's columns, events and moments mean, from their names and some values."""

import datetime
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from beam import words
from beam.accounting import Rejected
from beam.batches import Fields
from beam.config import EVENT_COLUMNS, KINDS, ORDER_FIELDS
from beam.items import UPDATED_AT, can_name_feature, is_taken, known_role
from beam.values import each, flag_value, is_missing, text_value

_FEW_VALUES = 0.05  # a column is categorical with fewer distinct values than this share of the rows
_MOST_CATEGORIES = 2000
_TEXT_WORDS = 2.5  # and text with more words than this, on average


def event_columns(rows: Sequence[Fields], given: Mapping[str, str]) -> dict[str, str]:
    """Our names of the log's columns that bear another name: a guess, and what the config says already."""
    return _columns(
        rows, {name: words.EVENT_NAMES[name] for name in EVENT_COLUMNS}, given
    )


def order_columns(rows: Sequence[Fields], given: Mapping[str, str]) -> dict[str, str]:
    """The same for files of orders from another system."""
    return _columns(
        rows, {name: words.EVENT_NAMES[name] for name in ORDER_FIELDS}, given
    )


def item_columns(rows: Sequence[Fields], given: Mapping[str, str]) -> dict[str, str]:
    """The same for the catalogue, and a name for each useful column whose own cannot name a feature."""
    found = _columns(rows, words.ITEM_NAMES, given)
    present = dict.fromkeys(column for row in rows for column in row)
    named = {*found.values(), *words.ITEM_NAMES}
    for column in present:
        values = [row.get(column) for row in rows]
        if column in named or not _needs_name(column):
            continue
        name = _feature_name(str(column))
        if name in found or name in present or _role(name, values) == "ignore":
            continue
        found[name] = column
    return found


def _needs_name(column: Any) -> bool:
    return not can_name_feature(column) or is_taken(column)


def _feature_name(column: str) -> str:
    """`Größe (cm)` is `groe_cm`, `word` is `item_word`."""
    plain = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_").lower()
    return f"item_{name}" if _needs_name(name) else name


def _columns(
    rows: Sequence[Fields],
    names: Mapping[str, tuple[str, ...]],
    given: Mapping[str, str],
) -> dict[str, str]:
    present = {column for row in rows for column in row}
    plain = {_plain(column): column for column in sorted(present, key=str)}
    taken = set(given.values())
    found = dict(given)
    for name, others in names.items():
        if name in found or name in present:
            continue
        for other in (name, *others):
            column = plain.get(_plain(other))
            if column is not None and column not in taken and column not in names:
                found[name] = column
                taken.add(column)
                break
    return found


def _plain(name: Any) -> str:
    """`searchTerm`, `Search Term` and `search_term` are one."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def event_names(values: Iterable[Any], given: Mapping[str, str]) -> dict[str, str]:
    """The kind of each event that the log names in its own way: a guess, `ignore` where its name says nothing."""
    found = dict(given)
    texts = each(lambda value: text_value(value, Rejected.UNKNOWN_EVENT), values)
    for value in sorted({text for text in texts if text}):
        if value in KINDS or value in found:
            continue
        name = value.lower()
        against = any(word in name for word in words.AGAINST)
        kinds = [
            kind
            for kind, parts in words.KIND_WORDS.items()
            if any(part in name for part in parts)
        ]
        found[value] = kinds[0] if kinds and not against else "ignore"
    return found


def clock(values: Sequence[Any]) -> dict[str, str]:
    """`timestamp_unit` or `timestamp_format` where these moments need one, by the first that all of them fit."""
    values = [value for value in values if not is_missing(value)]
    # As numbers they would be moments in 1970, or far in the future.
    digits = [str(value) for value in values]
    for form, length in words.COMPACT_FORMATS.items():
        if digits and all(
            len(text) == length
            and text.isdecimal()
            and text[:2] in ("19", "20")
            and _fits(text, functools.partial(_strptime, form=form))
            for text in digits
        ):
            return {"timestamp_format": form}
    numbers = [number for number in map(_number, values) if number is not None]
    if values and len(numbers) == len(values):
        largest = max(abs(number) for number in numbers)
        unit = next(
            (
                unit
                for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17))
                if largest < limit
            ),
            "ns",
        )
        return {} if unit == "s" else {"timestamp_unit": unit}
    texts = [value.strip() for value in values if isinstance(value, str)]
    if not texts or all(_fits(text, datetime.datetime.fromisoformat) for text in texts):
        return {}
    for form in words.FORMATS:
        if all(_fits(text, functools.partial(_strptime, form=form)) for text in texts):
            return {"timestamp_format": form}
    return {}


def _strptime(text: str, form: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, form)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _fits(text: str, parse: Callable[[str], object]) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_flag(values: Iterable[Any]) -> bool:
    """Whether all of these can be flags."""
    return None not in each(flag_value, values)


def roles(
    rows: Sequence[Fields], columns: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """A role for each column of the catalogue that has none by its name: a guess by its values.

    Args:
        rows: Rows of the catalogue.
        columns: Our name -> the catalogue's column.
        given: The roles that the config gives.
    """
    ours = {column: name for name, column in columns.items()}
    found = dict(given)
    for column in dict.fromkeys(column for row in rows for column in row):
        name = ours.get(column, column)
        if (
            name in found
            or name in ("item_id", "title", UPDATED_AT)
            or known_role(name)
            or _needs_name(name)
        ):
            continue
        found[name] = _role(name, [row.get(column) for row in rows])
    return found


def _role(name: str, values: Sequence[Any]) -> str:
    filled = [value for value in values if not is_missing(value) and value != []]
    if not filled:
        return "ignore"
    distinct = len(set(map(str, filled)))
    is_few = distinct <= min(_MOST_CATEGORIES, max(2, _FEW_VALUES * len(filled)))
    if all(_number(value) is not None for value in filled):
        # Whole numbers are a code or an id, unless the name says that they are a quantity.
        is_whole = all(float(value).is_integer() for value in filled)
        if not is_whole or any(word in name.lower() for word in words.QUANTITIES):
            return "number"
        return "categorical" if is_few and distinct > 1 else "ignore"
    if any(isinstance(value, dict) for value in filled):
        return "ignore"
    texts = [
        " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for value in filled
    ]
    if any(text.startswith(("http://", "https://", "//", "data:")) for text in texts):
        return "ignore"
    if sum(len(text.split()) for text in texts) / len(texts) >= _TEXT_WORDS:
        return "text"
    return "categorical" if is_few and distinct > 1 else "ignore"
