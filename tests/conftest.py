"""A small simulated shop, preprocessed once for every test that needs real examples."""

from pathlib import Path
from typing import NamedTuple

import pytest


class Shop(NamedTuple):
    """Paths of a simulated shop.

    Attributes:
        events: The log.
        items: The catalogue.
        examples: What preprocessing made of them, split by time.
    """

    events: Path
    items: Path
    examples: Path


@pytest.fixture(scope="session")
def simulated_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """About 600 requests over 300 items, through the real commands."""
    from beam import preprocess, simulate

    root = tmp_path_factory.mktemp("shop")
    logs, examples = root / "logs", root / "examples"
    assert (
        simulate.main(
            [
                "--output",
                str(logs),
                "--requests",
                "600",
                "--items",
                "300",
                "--seed",
                "1",
            ]
        )
        == 0
    )
    events, items = logs / "events.jsonl.gz", logs / "items.jsonl.gz"
    assert (
        preprocess.main(
            ["--events", str(events), "--items", str(items), "--output", str(examples)]
        )
        == 0
    )
    return Shop(events, items, examples)
