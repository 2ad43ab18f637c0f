"""The catalogue's columns, and the rule for one item."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from beam.accounting import RejectedRow
from beam.batches import Section
from beam.config import PreprocessConfig
from beam.items import ItemLayout, item_layout, parse_item, parse_items
from beam.sources import read_batches
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import GrainKind

ROW = {
    "price": 10,
    "item_id": "a",
    "tags": ["x", "y"],
    "seller": "s",
    "title": "Red shoe",
    "brand": "Acme",
}


def layout_of(row: dict[str, Any], **config: Any) -> ItemLayout:
    return item_layout([row], PreprocessConfig(**config), path="items.csv")


def test_known_columns_have_their_roles_and_others_are_unused() -> None:
    layout = layout_of(ROW)
    # What a brand is called is text, too.
    assert layout.text_fields == ("title", "brand", "tags")
    assert layout.attributes == (
        ("price", GrainKind.NUMBER),
        ("brand", GrainKind.CATEGORICAL),
    )
    assert layout.unused == ("seller",)


def test_a_known_column_that_no_row_fills_is_unused() -> None:
    assert layout_of({**ROW, "brand": ""}).unused == ("seller", "brand")


def test_the_config_gives_roles_and_takes_them() -> None:
    layout = layout_of(
        ROW, roles={"seller": "categorical", "tags": "ignore", "price": "text"}
    )
    assert layout.text_fields == ("title", "seller", "brand", "price")
    assert layout.attributes == (
        ("seller", GrainKind.CATEGORICAL),
        ("brand", GrainKind.CATEGORICAL),
    )
    assert layout.unused == ()


def test_columns_are_mapped_to_our_names() -> None:
    row = {"sku": "a", "name": "Red shoe", "preis": 3}
    layout = layout_of(
        row, item_columns={"item_id": "sku", "title": "name", "price": "preis"}
    )
    assert parse_item(row, layout) == ("a", 0.0, "Red shoe", 3.0)


@pytest.mark.parametrize(
    ("row", "config", "message"),
    [
        (
            {"id": "a", "title": "t"},
            {},
            r'expected the column item_id in items.csv, which has id, title; .*"item_id"',
        ),
        (
            ROW,
            {"item_columns": {"price": "cost"}},
            "expected the column cost in items.csv",
        ),
        (
            ROW,
            {"roles": {"size": "text"}},
            "gives a role to size, but items.csv has only price, item_id",
        ),
        (ROW, {"roles": {"title": "text"}}, "the column title has its role already"),
        (
            {**ROW, "level": 1},
            {"roles": {"level": "number"}},
            '\'level\' is taken .*"item_level": "level"',
        ),
        ({**ROW, "word": "w"}, {"roles": {"word": "categorical"}}, "'word' is taken"),
        (
            {**ROW, "a/b": 1},
            {"roles": {"a/b": "number"}},
            "the column name 'a/b' cannot name a feature",
        ),
    ],
)
def test_a_column_that_cannot_be_used_is_named(
    row: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        layout_of(row, **config)


def test_an_item_is_parsed_in_the_layouts_order() -> None:
    assert parse_item({**ROW, "item_id": 7}, layout_of(ROW)) == (
        "7",
        0.0,
        "Red shoe",
        "Acme",
        "x y",
        10.0,
        "Acme",
    )


def test_missing_values_are_empty_or_nan() -> None:
    item = parse_item({"item_id": "a", "title": "t", "price": ""}, layout_of(ROW))
    assert item[2:5] == ("t", "", "")
    assert math.isnan(float(item[5]))
    assert item[6] == ""


def test_the_moment_of_a_row_is_known_where_the_catalogue_has_it() -> None:
    row = {**ROW, "changed": "2020-01-01"}
    layout = layout_of(row, item_columns={"updated_at": "changed"})
    assert layout.unused == ("seller",)
    assert parse_item(row, layout)[1] == 1577836800.0
    assert parse_item({**row, "changed": None}, layout)[1] == 0.0
    with pytest.raises(RejectedRow, match=r"^bad_timestamp$"):
        parse_item({**row, "changed": "soon"}, layout)


def test_the_catalogue_writes_moments_in_its_own_way_or_they_are_left_out() -> None:
    row = {**ROW, "updated_at": 1_700_000_000_000}
    layout = layout_of(row, timestamp_unit="us", item_timestamp_unit="ms")
    assert parse_item(row, layout)[1] == 1_700_000_000.0
    row["updated_at"] = "yesterday"
    assert parse_item(row, layout_of(row, roles={"updated_at": "ignore"}))[1] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"item_id": None}, "missing_field"),
        ({"item_id": " "}, "bad_item_id"),
        ({"item_id": 1.5}, "bad_item_id"),
        ({"title": None}, "empty_title"),
        ({"title": " \n"}, "empty_title"),
        ({"title": {"en": "shoe"}}, "bad_text"),
        ({"title": "\udfff"}, "not_utf8"),
        ({"price": "ten"}, "bad_number"),
        ({"price": True}, "bad_number"),
        ({"price": 1e39}, "bad_number"),
        ({"price": float("inf")}, "bad_number"),
    ],
)
def test_a_bad_item_is_rejected_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RejectedRow, match=f"^{reason}$"):
        parse_item({**ROW, **changes}, layout_of(ROW))


ODD_VALUES = [
    None, "", " ", "\x1c", "\u0301", "a", "7", 7, 7.5, -1, True, 10**30, 1e39, "nan", "\ud800", "é", "!", [], ["a", 1],
    [["a"], None], [{}], {}, "x" * 100_000,
]  # fmt: skip


def test_a_batch_is_parsed_as_its_rows_are(tmp_path: Path) -> None:
    rows = [
        {**ROW, "updated_at": 5, name: value}
        for name in (*ROW, "updated_at")
        for value in ODD_VALUES
    ]
    layout = layout_of({**ROW, "updated_at": 5})
    path = tmp_path / "i.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected, reasons = [], {}
    for number, row in enumerate(rows):
        try:
            expected.append((*parse_item(row, layout), number + 1))
        except RejectedRow as e:
            reasons[number] = e.reason
    found, rejected = [], {}
    for batch in read_batches(Section(str(path))):
        parsed = parse_items(batch, layout)
        found += parsed.table.rows()
        rejected |= {batch.lines[n] - 1: reason for n, reason in parsed.rejected}
    # A NaN is unequal to itself, but not as it prints.
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert rejected == reasons
    assert len(expected) > 50 and len(reasons) > 20
