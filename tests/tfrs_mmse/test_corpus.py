"""The catalogue as vectors and attributes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfrs_mmse import schema
from tfrs_mmse.corpus import read_attributes

SPEC = schema.FeatureSpec(
    text_fields=("title",),
    grains=(
        schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=2),
        schema.Grain(name="price", kind=schema.GrainKind.NUMBER, size=2),
    ),
    max_query_words=8,
    max_field_words=8,
)


def write(data: Path, write_records: Callable[..., None], *rows: Any) -> None:
    """Two shards with the first row and all others."""
    records = [
        {
            schema.ITEM_ID: [f"i{number}"],
            schema.item_value("brand"): [brand],
            schema.item_value("price"): [price],
        }
        for number, (brand, price) in enumerate(rows)
    ]
    write_records(data / "items-00000-of-00002.tfrecord.gz", records[:1])
    write_records(data / "items-00001-of-00002.tfrecord.gz", records[1:])


def test_attributes_come_in_the_order_of_the_files(
    tmp_path: Path, write_records: Callable[..., None]
) -> None:
    write(tmp_path, write_records, ("Acme", 1.5), ("", float("nan")), ("é", 2.0))
    found = read_attributes(tmp_path, SPEC)
    assert found["brand"].tolist() == [b"Acme", b"", "é".encode()]
    assert found["price"].dtype == np.float32
    np.testing.assert_array_equal(found["price"], [1.5, np.nan, 2.0])


def test_records_of_an_older_version_hold_none(
    tmp_path: Path, write_records: Callable[..., None]
) -> None:
    name = "items-00000-of-00001.tfrecord.gz"
    write_records(tmp_path / name, [{schema.ITEM_ID: ["i0"]}])
    assert read_attributes(tmp_path, SPEC) == {}
