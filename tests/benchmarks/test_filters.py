"""The benchmark on a shop that takes seconds: it measures what it says."""

from typing import Any

import pytest

from benchmarks import filters


@pytest.mark.slow
def test_every_way_to_ask_is_timed_and_compared_with_exact_search(
    simulated_shop: Any, embedded_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_KS", (10,))
    sizes = filters.Sizes(num_queries=4)
    result = filters.measure(simulated_shop.examples, embedded_shop.model_dir, sizes)
    ways = [f"{name}, k=10, batch={b}" for name in ("exact", "scann") for b in (1, 32)]
    cases = {f"{share:g} of the items" for share in (1, 0.5, 0.1, 0.01, 1e-3, 1e-4)}
    cases |= {"category of the best item", "category of the worst item"}
    measured = result["measurements"]
    assert (measured["items"], measured["queries"]) == (300, 4)
    assert result["ratios"].keys() == {f"{case}, {w}" for case in cases for w in ways}
    for way in ways:
        by_case = measured[way]
        assert by_case.keys() == cases | {"no filter"}
        # So small a catalogue is scored whole by either index.
        assert {figures["recall"] for figures in by_case.values()} == {1.0}
        assert by_case["1 of the items"]["passing"] == 300
        assert 100 < by_case["0.5 of the items"]["passing"] < 200
        assert all(figures["ms_per_query"] > 0 for figures in by_case.values())
