"""The language of filters: `attribute=value`, `attribute>=number`, `attribute<=number`, read inside the graph."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

MAX_CLAUSES = 64  # of one query

# An operator is the first of these characters: a value may hold them, the name of an attribute may not.
OPERATORS = "=<>"
_CLAUSE = r"(?s)([^=<>]*)(>=|<=|=)(.*)"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_UNSHOWN = r"[\[\]\"'\\\p{C}\p{Z}]+"  # in a message they would be escaped, or end it
_MAX_SHOWN = 40  # characters of a request, or names of attributes, in a message


class Clauses(NamedTuple):
    """C clauses of B queries.

    Attributes:
        query: [C] int32 row of the query that each belongs to, ascending.
        attribute: [C] int32 number of the attribute.
        operator: [C] strings `=`, `>=` or `<=`.
        text: [C] strings: the value, without white space around it.
        number: [C] float32: the value of a number attribute; 0 of any other one.
    """

    query: tf.Tensor
    attribute: tf.Tensor
    operator: tf.Tensor
    text: tf.Tensor
    number: tf.Tensor


def parse_clauses(
    clause: tf.Tensor, *, names: Sequence[str], is_number: Sequence[bool]
) -> Clauses:
    """Reads clauses and checks each of them.

    Args:
        clause: [B, F] strings, padded with "".
        names: The attributes that can be filtered on.
        is_number: Of each of them, whether its values are numbers.

    Raises:
        tf.errors.InvalidArgumentError: (when the graph runs) F is greater than MAX_CLAUSES, or a clause is not UTF-8,
            has no operator, names no such attribute, compares text by `<=` or `>=`, or a number with something else.
    """
    few = tf.debugging.assert_less_equal(
        tf.shape(clause)[1],
        MAX_CLAUSES,
        message=f"filter must hold at most {MAX_CLAUSES} clauses for each query",
    )
    with tf.control_dependencies([few]):
        place = tf.where(tf.not_equal(clause, ""))
    text = tf.gather_nd(clause, place)
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="strict")
    has_operator = tf.strings.regex_full_match(text, _CLAUSE)
    name, operator, value = (
        tf.strings.strip(
            tf.where(
                has_operator, tf.strings.regex_replace(text, _CLAUSE, rf"\{part}"), ""
            )
        )
        for part in (1, 2, 3)
    )
    same = tf.equal(name[:, None], tf.constant(list(names), tf.string)[None, :])
    is_known = tf.reduce_any(same, axis=1)
    # One more, so that there is something to look at where a catalogue has no attribute.
    attribute = tf.argmax(
        tf.pad(tf.cast(same, tf.int32), [[0, 0], [0, 1]]), axis=1, output_type=tf.int32
    )
    of_number = tf.gather(tf.constant([*is_number, False]), attribute)
    is_numeral = tf.strings.regex_full_match(value, _NUMBER)
    is_range = tf.not_equal(operator, "=")
    checks = [
        _refuse(
            tf.logical_not(has_operator),
            ["the filter ", text, " has no operator: write name=value, name>=number"],
            " or name<=number",
        ),
        _refuse(
            has_operator & tf.logical_not(is_known),
            ["the filter names the attribute ", name, f", {_known(names)}"],
        ),
        _refuse(
            is_known & is_range & tf.logical_not(of_number),
            ["the filter compares ", name, ", which is text, by ", operator],
            ": text can only be compared by =",
        ),
        _refuse(
            is_known & of_number & tf.logical_not(is_numeral),
            ["the filter compares ", name, " with ", value, ", which is not a number"],
        ),
    ]
    with tf.control_dependencies(checks):
        return Clauses(
            query=tf.cast(place[:, 0], tf.int32),
            attribute=tf.identity(attribute),
            operator=tf.identity(operator),
            text=tf.identity(value),
            number=tf.cast(
                tf.strings.to_number(
                    tf.where(of_number & is_numeral, value, "0"), tf.float64
                ),
                tf.float32,
            ),
        )


def _refuse(
    is_bad: tf.Tensor, message: list[str | tf.Tensor], end: str = ""
) -> tf.Operation:
    """An assertion that no clause is bad; the message tells of the first one that is."""
    parts = [
        part if isinstance(part, str) else _shown(part, is_bad) for part in message
    ]
    is_good = tf.logical_not(tf.reduce_any(is_bad))
    return tf.debugging.Assert(is_good, [tf.strings.join([*parts, end])])


def _shown(values: tf.Tensor, is_bad: tf.Tensor) -> tf.Tensor:
    first = tf.concat([tf.boolean_mask(values, is_bad), [""]], axis=0)[0]
    plain = tf.strings.regex_replace(first, _UNSHOWN, " ")
    return tf.strings.substr(plain, 0, _MAX_SHOWN, unit="UTF8_CHAR")


def _known(names: Sequence[str]) -> str:
    if not names:
        return "but this catalogue has none to filter on"
    shown = ", ".join(names[:_MAX_SHOWN])
    return f"which is none of {shown}{' and others' if len(names) > _MAX_SHOWN else ''}"
