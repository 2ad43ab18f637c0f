"""The rules for single values."""

from typing import Any

import pytest

from beam.accounting import Rejected, RejectedRow
from beam.values import each, text_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (42, "42"),
        (1.5, "1.5"),
        (5.0, "5"),
        (1e300, "1e+300"),
        (float("nan"), ""),
        (True, "true"),
        (["a", 1, None], "a 1 "),
        ("Ação".encode(), "Ação"),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert text_value(value, Rejected.BAD_TEXT) == text


def test_bytes_that_are_no_text_are_rejected() -> None:
    with pytest.raises(RejectedRow, match=r"^not_utf8$"):
        text_value(b"A\xe7\xe3o", Rejected.BAD_TEXT)


def test_lists_without_end_are_rejected() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RejectedRow, match=r"^bad_text$"):
        text_value(nested, Rejected.BAD_TEXT)


def test_each_keeps_apart_what_is_equal_but_of_another_type() -> None:
    assert each(repr, [1, True, 1.0, 1, "1", [1], [1]]) == [
        "1",
        "True",
        "1.0",
        "1",
        "'1'",
        "[1]",
        "[1]",
    ]


def test_each_asks_once_about_equal_values_and_gives_none_for_what_is_rejected() -> (
    None
):
    asked = []

    def rule(value: str) -> str:
        asked.append(value)
        if value == "bad":
            raise RejectedRow(Rejected.BAD_TEXT)
        return value.upper()

    assert each(rule, ["a", "bad", "a", "bad", "b"]) == ["A", None, "A", None, "B"]
    assert asked == ["a", "bad", "b"]


def test_a_number_that_a_fast_parser_may_have_rounded_is_not_certain() -> None:
    assert each(float, [1e30, -1e30, 1e15]) == [None, None, 1e15]
