"""Tables in buckets: nothing is lost, and what belongs together comes together."""

import polars as pl
import tensorflow as tf

from beam.tables import bucket, fingerprint, pack, partition, unpack

SCHEMA = {"key": pl.String, "n": pl.Int64}
FRAME = pl.DataFrame(
    {"key": [f"k{n % 7}" for n in range(100)], "n": range(100)}, schema=SCHEMA
)


def test_a_bucket_holds_all_rows_of_its_keys_and_no_row_is_lost() -> None:
    parts: dict[int, list[bytes]] = {}
    for half in (FRAME[:40], FRAME[40:]):
        for number, part in partition(half, bucket(half["key"], 3)):
            parts.setdefault(number, []).append(part)
    tables = {number: unpack(found, SCHEMA) for number, found in parts.items()}
    assert pl.concat(tables.values()).sort("n").equals(FRAME)
    keys = [set(table["key"]) for table in tables.values()]
    assert sum(map(len, keys)) == 7 and set(tables) <= {0, 1, 2}


def test_a_fingerprint_is_that_of_the_training_data() -> None:
    """A golden value: it must never change, or records move between shards."""
    assert fingerprint(pl.Series(["ação", "b", "ação"])).to_list() == [
        int(tf.strings.to_hash_bucket_fast(text, 2**63 - 1))
        for text in ("ação", "b", "ação")
    ]
    assert fingerprint(pl.Series(["shoe"])).item() == 2539414193797093738
    assert fingerprint(pl.Series([], dtype=pl.String)).to_list() == []


def test_columns_may_come_in_any_order_and_others_are_left_out() -> None:
    part = pack(FRAME.select("n", "key", extra=pl.lit(1)))
    assert unpack([part], SCHEMA).equals(FRAME)
    assert unpack([], SCHEMA).schema == pl.Schema(SCHEMA)
