"""Search inside filters: always what is there, whichever way it is found; and the signature of saved versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.index import filtered_search
from serving.index.exact import ExactIndex
from serving.index.filtered_search import FilteredSearch
from serving.index.filters import FilterTable
from serving.index.found import Index
from serving.index.scann import ScannIndex, import_scann
from serving.index.scann_build import ScannSettings
from serving.server.errors import RequestError
from serving.server.servable import Servable

NUM_ITEMS = 3000
# From nearly all items to one and none; `kind` goes with the embedding, `number` does not.
FILTERS: list[list[str]] = [
    [],
    ["number<=2990"],
    ["number<=1500"],
    ["number>=100", "number<=400"],
    ["number<=7"],
    ["number=5"],
    ["number>=5000"],
    ["kind=k1"],
    ["kind=k1", "kind=k2", "number<=2000"],
    ["kind=k3", "number>=2500"],
    ["kind=other"],
]


class Shop:
    """Items in four directions, queries among them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.kind = rng.integers(4, size=NUM_ITEMS)
        self.number = rng.permutation(NUM_ITEMS).astype(np.float32)
        centres = 2 * rng.normal(size=(4, 16))
        noise = rng.normal(size=(NUM_ITEMS, 16))
        self.item = (centres[self.kind] + noise).astype(np.float32)
        self.query = (centres + rng.normal(size=(4, 16))).astype(np.float32)
        self.table = FilterTable(
            {
                "kind": np.array([b"k%d" % n for n in self.kind], object),
                "number": self.number,
            },
            NUM_ITEMS,
        )

    def passing(self, clauses: list[str]) -> np.ndarray:
        wanted = np.ones(NUM_ITEMS, bool)
        kinds = [clause[5:] for clause in clauses if clause.startswith("kind=")]
        if kinds:
            wanted &= np.isin([f"k{n}" for n in self.kind], kinds)
        for clause in clauses:
            if clause.startswith("number<="):
                wanted &= self.number <= float(clause[8:])
            elif clause.startswith("number>="):
                wanted &= self.number >= float(clause[8:])
            elif clause.startswith("number="):
                wanted &= self.number == float(clause[7:])
        return wanted

    def best(self, query: int, clauses: list[str], out: list[int], k: int) -> list[int]:
        score = self.item @ self.query[query]
        order = np.argsort(-score, kind="stable")
        wanted = self.passing(clauses)
        wanted[[row for row in out if row >= 0]] = False
        return order[wanted[order]][:k].tolist()


SHOP = Shop()
WIDE = ScannSettings(num_leaves=50, leaves_to_search=50, num_reorder=1000)
NARROW = ScannSettings(num_leaves=50, leaves_to_search=2, num_reorder=20)
WAYS: dict[str, dict[str, int]] = {
    "as it comes": {},
    "one by one": {"_FEW": NUM_ITEMS, "_SINGLE": 1},
    "all of them": {"_MAX_FETCHED": 0, "_FEW": 0, "_SINGLE": 1 << 30, "_BLOCK": 500},
    "in small groups": {"_FEW": 0, "_SINGLE": 1 << 30, "_MAX_VALUES": 1000},
}


Run = Callable[..., Any]


def traced(over: Index) -> Run:
    """A search over an index as a graph, from embeddings and clauses."""
    way = FilteredSearch(over, SHOP.table)
    return tf.function(
        lambda query, k, excluded, clause: way.search(
            query, k, excluded, SHOP.table.read(clause)
        ),
        input_signature=[
            tf.TensorSpec([None, 16]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.string),
        ],
    )


def search(
    run: Run,
    *,
    queries: list[int],
    k: list[int],
    excluded: list[list[int]],
    filters: list[list[str]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found, num_matching = run(
        tf.constant(SHOP.query[queries]),
        tf.constant(k),
        tf.constant(excluded, tf.int32),
        tf.ragged.constant(filters, tf.string, ragged_rank=1).to_tensor(),
    )
    return found.row.numpy(), found.score.numpy(), num_matching.numpy()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["exact", "thorough scann"])
def test_the_best_of_what_passes_is_found_whichever_way(
    kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WAYS[way].items():
        monkeypatch.setattr(filtered_search, name, value)
    over = (
        ExactIndex(SHOP.item) if kind == "exact" else ScannIndex(SHOP.item, WIDE, k=10)
    )
    rng = np.random.default_rng(1)
    num = len(FILTERS)
    queries = rng.integers(4, size=num).tolist()
    k = rng.choice([1, 3, 40], size=num).tolist()
    excluded = rng.integers(-1, NUM_ITEMS, size=(num, 6))
    for place, clauses in enumerate(FILTERS):  # also what would have been found
        best = SHOP.best(queries[place], clauses, [], 3)
        excluded[place, : len(best)] = best
        excluded[place, 5] = excluded[place, 0]
    row, score, num_matching = search(
        traced(over),
        queries=queries,
        k=k,
        excluded=excluded.tolist(),
        filters=FILTERS,
    )
    assert row.shape == score.shape == (num, max(k))
    for place, clauses in enumerate(FILTERS):
        out = [n for n in set(excluded[place].tolist()) if n >= 0]
        passing = SHOP.passing(clauses)
        passing[out] = False
        assert num_matching[place] == passing.sum()
        expected = SHOP.best(queries[place], clauses, out, k[place])
        padding = max(k) - len(expected)
        assert row[place].tolist() == expected + [-1] * padding, clauses
        trained = SHOP.item[expected] @ SHOP.query[queries[place]]
        np.testing.assert_allclose(score[place, : len(expected)], trained, rtol=1e-4)
        assert (score[place, len(expected) :] == -np.inf).all()


def test_an_approximate_index_never_gives_fewer_than_there_are() -> None:
    # Two of fifty leaves hold a few of the items of a query's own direction, and none of another one.
    over = ScannIndex(SHOP.item, NARROW, k=10)
    k = [1000] * len(FILTERS)
    row, _, num_matching = search(
        traced(over),
        queries=[0] * len(FILTERS),
        k=k,
        excluded=[[-1]] * len(FILTERS),
        filters=FILTERS,
    )
    for place, clauses in enumerate(FILTERS):
        passing = SHOP.passing(clauses)
        found = row[place][row[place] >= 0]
        assert num_matching[place] == passing.sum()
        assert len(found) == len(set(found)) == min(1000, passing.sum())
        assert passing[found].all()


def test_without_filters_an_approximate_index_completes_what_it_lacks() -> None:
    over = ScannIndex(SHOP.item, NARROW, k=10)
    row, _, num_matching = search(
        traced(over),
        queries=[0, 1],
        k=[1000, 2],
        excluded=[[], []],
        filters=[[], []],
    )
    assert num_matching.tolist() == [NUM_ITEMS, NUM_ITEMS]
    assert (row >= 0).sum(axis=1).tolist() == [1000, 2]


def test_a_query_is_answered_alike_alone_and_among_others() -> None:
    way = traced(ScannIndex(SHOP.item, WIDE, k=10))
    num = len(FILTERS)
    order = np.random.default_rng(2).permutation(num)
    queries, k = [n % 4 for n in range(num)], [1 + n for n in range(num)]

    def of(places: list[int]) -> list[list[int]]:
        row, _, _ = search(
            way,
            queries=[queries[n] for n in places],
            k=[k[n] for n in places],
            excluded=[[]] * len(places),
            filters=[FILTERS[n] for n in places],
        )
        return [rows[rows >= 0].tolist() for rows in row]

    together = of(list(range(num)))
    assert of(order.tolist()) == [together[n] for n in order]
    assert [of([n])[0] for n in range(num)] == together


@pytest.fixture(scope="module", params=["exact_version", "scann_version"])
def version(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


Ask = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def servable(exact_version: Path) -> Servable:
    return Servable(exact_version)


@pytest.fixture(scope="module", params=["tf2", "session"])
def ask(request: pytest.FixtureRequest, version: Path) -> Any:
    """Answers requests by each way to load a version."""
    if request.param == "tf2":
        signature = tf.saved_model.load(str(version)).signatures["search_filtered"]

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            return {name: t.numpy() for name, t in signature(**tensors).items()}

        yield _asking(run)
    else:
        import_scann()  # the operations
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(
                session, ["serve"], str(version)
            )
        signature = loaded.signature_def["search_filtered"]
        outputs = {name: o.name for name, o in signature.outputs.items()}

        def feed(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            fed = {signature.inputs[n].name: value for n, value in inputs.items()}
            return session.run(outputs, fed)

        yield _asking(feed)
        session.close()


def _asking(run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Ask:
    def asked(
        query: list[str | bytes],
        k: list[int],
        exclude: list[list[str]],
        filters: list[list[str]],
    ) -> dict[str, np.ndarray]:
        return run(
            {
                "query": np.array(query, object),
                "k": np.array(k, np.int32),
                "exclude": _rectangle(exclude),
                "filter": _rectangle(filters),
            }
        )

    return asked


def _rectangle(rows: list[list[str]]) -> np.ndarray:
    width = max(map(len, rows), default=0)
    padded = [row + [""] * (width - len(row)) for row in rows]
    return np.array(padded, object).reshape(len(rows), width)


def test_the_signature_answers_each_query_by_itself(ask: Ask) -> None:
    # Acme is the brand of i0, i3, ...: 34 items, of which i0 costs 0 and i9, i39, i69 and i99 have no price.
    found = ask(
        ["red shoe"] * 5,
        [2, 3, 2, 1, 9],
        [[], ["i0", "no such"], [], [], []],
        [[], [], ["Brand (EU)=ACME"], ["price>=1", "Brand (EU)=acme"], ["price>=97"]],
    )
    assert found["num_matching"].tolist() == [100, 99, 34, 29, 2]
    ids = found["item_id"].astype(bytes)
    assert ids.shape == found["score"].shape == (5, 9)
    assert (ids[:, 0] != b"").all()
    assert ids[0, 0] == ids[2, 0] == b"i0"
    assert ids[1, 0] == ids[0, 1]
    assert b"i0" not in ids[1]
    assert sorted(ids[4].tolist())[-2:] == [b"i97", b"i98"]
    assert [(row != b"").sum() for row in ids] == [2, 3, 2, 1, 2]
    assert ((found["score"] > -np.inf) == (ids != b"")).all()


def test_no_filter_is_the_plain_search(ask: Ask, version: Path) -> None:
    servable = Servable(version)
    queries = ["red shoe", "lime", "gold cup"]
    plain = servable.predict("", {"query": tf.make_tensor_proto(queries, tf.string)})
    nothing: list[list[str]] = [[], [], []]
    for filters in (nothing, [["price>=-1", "price<=1e9"]] * 3):
        found = ask(queries, [5, 5, 5], nothing, filters)
        if filters is nothing:
            assert found["item_id"].tolist() == plain["item_id"].tolist()
            np.testing.assert_allclose(found["score"], plain["score"], rtol=1e-5)
            assert found["num_matching"].tolist() == [100] * 3
        else:
            assert found["num_matching"].tolist() == [90] * 3
    head = ask(queries, [1, 1, 1], nothing, nothing)
    assert head["item_id"].tolist() == plain["item_id"][:, :1].tolist()
    exclude = [row.astype(str).tolist()[:2] for row in plain["item_id"].astype(bytes)]
    rest = servable.predict(
        "search_excluding",
        {
            "query": tf.make_tensor_proto(queries, tf.string),
            "exclude": tf.make_tensor_proto(exclude, tf.string),
        },
    )
    found = ask(queries, [5, 5, 5], exclude, nothing)
    assert found["item_id"].tolist() == rest["item_id"].tolist()


def test_an_empty_batch_is_answered_too(ask: Ask) -> None:
    found = ask([], [], [], [])
    assert found["item_id"].shape == found["score"].shape == (0, 0)
    assert found["num_matching"].tolist() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": [0, 1]}, "k must be from 1 to 1000 for each query"),
        ({"k": [1, 1001]}, "k must be from 1 to 1000 for each query"),
        ({"k": [1, -(2**31)]}, "k must be from 1 to 1000 for each query"),
        ({"k": [1, 2**31 - 1]}, "k must be from 1 to 1000 for each query"),
        ({"k": [1]}, "k must have one value for each query"),
        ({"k": []}, "k must have one value for each query"),
        ({"exclude": [[]]}, "exclude must have one row for each query"),
        ({"filters": [[]] * 3}, "filter must have one row for each query"),
        (
            {"filters": [[], ["size=4"]]},
            "the filter names the attribute size, which is none of Brand (EU), price",
        ),
        (
            {"filters": [[], ["price=4"] * 65]},
            "filter must hold at most 64 clauses for each query",
        ),
        (
            {"exclude": [[], ["i1"] * 1025]},
            "exclude must hold at most 1024 item ids for each query",
        ),
        ({"query": ["red", "!"]}, "query must hold at least one letter or digit"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(
    servable: Servable, changed: dict[str, Any], message: str
) -> None:
    asked = {
        "query": ["red", "hat"],
        "k": [1, 1],
        "exclude": [[], []],
        "filters": [[], []],
    }
    refusing = _asking(
        lambda inputs: servable.predict(
            "search_filtered",
            {name: tf.make_tensor_proto(value) for name, value in inputs.items()},
        )
    )
    with pytest.raises(RequestError) as refused:
        refusing(**(asked | changed))
    assert refused.value.message == message
    assert refused.value.http_status == 400
