"""Filters by themselves: which items pass which clauses, and which clauses are refused."""

import numpy as np
import pytest
import tensorflow as tf

from serving.index.clauses import MAX_CLAUSES
from serving.index.filters import FilterTable, filterable
from serving.index.lookup import StringLookup
from serving.server.errors import plain_message

NAN = float("nan")
# Row by row: a brand and a price.
TABLE = FilterTable(
    {
        "brand": np.array([b"Acme", b"ACME ", b"Zeta", b"", b"a=b<c"], object),
        "price": np.array([10, 20, 20, NAN, -0.5], np.float32),
    },
    num_items=5,
)

READ = tf.function(TABLE.read, input_signature=[tf.TensorSpec([None, None], tf.string)])


def passing(*clauses: str, table: FilterTable = TABLE) -> list[int]:
    """The rows that pass, by every way to ask."""
    filters = table.read(tf.constant([clauses], tf.string, [1, len(clauses)]))
    rows = np.flatnonzero(table.passes(filters, tf.range(5))[0]).tolist()
    if clauses:
        assert table.candidates(filters).numpy().tolist() == rows
        assert filters.at_most.numpy() >= len(rows)
    return rows


@pytest.mark.parametrize(
    ("clauses", "rows"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["brand=acme"], [0, 1]),
        (["brand= ÁCME  "], [0, 1]),
        (["brand=acme", "brand=ZETA"], [0, 1, 2]),
        (["brand=acme", "brand=Acme"], [0, 1]),
        (["brand="], [3]),
        (["brand=a=b<c"], [4]),
        (["brand=other"], []),
        (["brand=other", "brand=zeta"], [2]),
        (["price<=20"], [0, 1, 2, 4]),
        (["price>=10"], [0, 1, 2]),
        ([" price >= 10.5 "], [1, 2]),
        (["price>=10", "price<=10"], [0]),
        (["price>=11", "price>=0", "price<=19"], []),
        (["price>=20", "price<=10"], []),
        (["price=20"], [1, 2]),
        (["price=20", "price=10", "price=2e1"], [0, 1, 2]),
        (["price=20", "price=10", "price<=15"], [0]),
        (["price=15"], []),
        (["price<=-.5"], [4]),
        (["price>=-1e999"], [0, 1, 2, 4]),
        (["price<=1e999"], [0, 1, 2, 4]),
        (["price>=1e39"], []),
        (["brand=acme", "price>=15"], [1]),
        (["price>=15", "brand=acme", "brand=zeta"], [1, 2]),
        (["brand=", "price>=-9"], []),
    ],
)
def test_what_passes(clauses: list[str], rows: list[int]) -> None:
    assert passing(*clauses) == rows


def test_each_query_of_a_batch_has_its_own_filter() -> None:
    clause = tf.constant(
        [["brand=acme", "price<=10"], ["", ""], ["", "price>=20"], ["brand=x", ""]]
    )
    filters = TABLE.read(clause)
    assert TABLE.passes(filters, tf.range(5)).numpy().tolist() == [
        [True, False, False, False, False],
        [True] * 5,
        [False, True, True, False, False],
        [False] * 5,
    ]
    assert filters.at_most.numpy().tolist() == [2, 5, 2, 0]
    # Rows may be asked for query by query, too.
    row = tf.constant([[0, 1], [3, 4], [2, 0], [0, 1]])
    assert TABLE.passes(filters, row).numpy().tolist() == [
        [True, False],
        [True, True],
        [True, False],
        [False, False],
    ]


def test_a_number_is_compared_as_the_catalogue_holds_it() -> None:
    # 0.1 as 32 bits is a little more than 0.1.
    table = FilterTable({"price": np.array([0.1] * 5, np.float32)}, num_items=5)
    for clause in ("price<=0.1", "price>=0.1", "price=0.1"):
        assert passing(clause, table=table) == [0, 1, 2, 3, 4]


def test_random_filters_pass_what_python_passes() -> None:
    rng = np.random.default_rng(0)
    brand = rng.integers(4, size=200)
    price = rng.integers(8, size=200).astype(np.float32)
    price[rng.random(200) < 0.2] = np.nan
    names = np.array([b"b%d" % n for n in brand], object)
    table = FilterTable({"brand": names, "price": price}, num_items=200)
    for _ in range(25):
        brands, prices = rng.integers(5, size=2), rng.integers(9, size=2)
        low, high = rng.integers(9, size=2)
        parts = {
            f"brand=b{brands[0]}": None,
            f"brand=b{brands[1]}": None,
            f"price={prices[0]}": None,
            f"price={prices[1]}": None,
            f"price>={low}": price >= low,
            f"price<={high}": price <= high,
        }
        chosen = [c for c in parts if rng.random() < 0.4]
        wanted = np.ones(200, bool)
        for attribute, values in (("brand", brand), ("price", price)):
            equal = [int(c[-1]) for c in chosen if c.startswith(f"{attribute}=")]
            if equal:
                wanted &= np.isin(values, equal)
        for clause in chosen:
            if parts[clause] is not None:
                wanted &= parts[clause]
        filters = table.read(tf.constant([chosen], tf.string, [1, len(chosen)]))
        found = table.passes(filters, tf.range(200))[0].numpy()
        assert found.tolist() == wanted.tolist(), chosen
        if chosen:
            rows = table.candidates(filters).numpy().tolist()
            assert rows == np.flatnonzero(wanted).tolist(), chosen


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("red", "the filter red has no operator: write name=value, name>=number or name<=number"),
        ("price<5", "the filter price<5 has no operator: write name=value, name>=number or name<=number"),
        ("colour=red", "the filter names the attribute colour, which is none of brand, price"),
        ("Brand=acme", "the filter names the attribute Brand, which is none of brand, price"),
        ("=red", "the filter names the attribute , which is none of brand, price"),
        ("] [a\n'\"b\\=c", "the filter names the attribute  a b , which is none of brand, price"),
        ("x" * 99 + "=1", f"the filter names the attribute {'x' * 40}, which is none of brand, price"),
        ("brand>=b", "the filter compares brand, which is text, by >=: text can only be compared by ="),
        ("price=", "the filter compares price with , which is not a number"),
        ("price>=nan", "the filter compares price with nan, which is not a number"),
        ("price<=inf", "the filter compares price with inf, which is not a number"),
        ("price=>5", "the filter compares price with >5, which is not a number"),
        ("price<=9,90", "the filter compares price with 9,90, which is not a number"),
        ("price<=0x10", "the filter compares price with 0x10, which is not a number"),
        (b"brand=\xff", "the text is not valid UTF-8"),
        (b"\xffbrand=1", "the text is not valid UTF-8"),
    ],
)  # fmt: skip
def test_a_clause_that_cannot_be_meant_is_refused(
    clause: str | bytes, message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        READ(tf.constant([["brand=acme", "price<=5"], ["", clause]]))
    assert plain_message(refused.value.message) == message


def test_too_many_clauses_are_refused() -> None:
    TABLE.read(tf.fill([1, MAX_CLAUSES], "price>=1"))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="filter must hold at most 64 clauses"
    ):
        TABLE.read(tf.fill([1, MAX_CLAUSES + 1], "price>=1"))


def test_a_catalogue_without_attributes_says_so() -> None:
    table = FilterTable({}, num_items=5)
    assert passing(table=table) == [0, 1, 2, 3, 4]
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match="the attribute brand, but this catalogue has none to filter on",
    ):
        table.read(tf.constant([["brand=acme"]]))


def test_what_can_be_filtered_on_is_described() -> None:
    assert TABLE.describe() == {
        "brand": {"kind": "categorical", "num_values": 3},
        "price": {"kind": "number", "min": -0.5, "max": 20.0},
    }
    nothing = FilterTable({"price": np.full(5, np.nan, np.float32)}, num_items=5)
    assert nothing.describe() == {"price": {"kind": "number", "min": None, "max": None}}
    assert passing("price<=9", table=nothing) == []


@pytest.mark.parametrize("name", ["a=b", "a<", ">", " a", ""])
def test_some_names_cannot_be_asked_for(name: str) -> None:
    assert not filterable(name)
    assert filterable("Brand (EU)")


def test_strings_that_share_a_fingerprint_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two buckets for five strings.
    monkeypatch.setattr("serving.index.lookup._FINGERPRINTS", 2)
    lookup = StringLookup(tf.Variable([b"a", b"b", b"c", b"d", b"e"]))
    wanted = tf.constant([["e", "a", "x"], ["", "c", "b"]])
    assert lookup(wanted).numpy().tolist() == [[4, 0, -1], [-1, 2, 1]]
