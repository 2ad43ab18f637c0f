"""The benchmark on sizes that take seconds: it measures what it says."""

import json

import pytest

from benchmarks import embed_items


@pytest.mark.slow
def test_times_the_command_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("grains=word,category", "embedding_dim=8", "attribute_dim=4")
    tiny = embed_items.Sizes(
        num_items=10_000, shop_items=200, shop_requests=300, settings=settings
    )
    monkeypatch.setattr(embed_items, "QUICK", tiny)
    assert embed_items.main(["--quick"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert set(result) == {"ratios", "measurements", "machine"}
    measured = result["measurements"]
    assert (measured["items"], measured["dimensions"]) == (10_000, 8 + 4)
    # A million items at this rate: seconds * 100.
    ratio = 600 / (measured["seconds"] * 100)
    assert result["ratios"]["vs 10 minutes"] == pytest.approx(ratio, rel=0.03)
    # 12 numbers of 4 bytes for each item, 0.0005 GB, ids and titles.
    assert 0.001 <= measured["written_gb"] < 0.003
    assert measured["cpu_seconds"] > 0
    assert measured["largest_process_gb"] > 0.1
