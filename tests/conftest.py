"""A small simulated shop, preprocessed once for every test that needs real examples."""

from pathlib import Path
from typing import NamedTuple

import pytest

# Files that take minutes begin first: at the end of all tests, only one worker would be at work on each.
_LONG = (
    "test_end_to_end.py",
    "test_trainer.py",
    "test_demo.py",
    "test_quality.py",
    "test_preprocess.py",
    "test_cluster.py",
    "test_flink.py",
    "test_resume.py",
    "test_early_stopping.py",
    "test_examples.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first, in the order of the list."""
    items.sort(
        key=lambda item: (
            _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG)
        )
    )


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


class Embedded(NamedTuple):
    """Paths of a model and of what it made of a catalogue.

    Attributes:
        model_dir: A small model, trained for one epoch on the simulated shop.
        embeddings: Of the same shop's catalogue.
    """

    model_dir: Path
    embeddings: Path


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


@pytest.fixture(scope="session")
def embedded_shop(
    simulated_shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Embedded:
    """The simulated shop's catalogue, embedded by the real commands."""
    from beam import embed_items
    from tfrs_mmse import train

    root = tmp_path_factory.mktemp("embedded")
    run, embeddings = root / "run", root / "embeddings"
    sizes = ["embedding_dim=8", "attribute_dim=4", "batch_size=64", "epochs=1"]
    flags = [flag for size in sizes for flag in ("--set", size)]
    data = str(simulated_shop.examples)
    assert train.main(["--data", data, "--model-dir", str(run), *flags]) == 0
    flags = ["--items", str(simulated_shop.items), "--output", str(embeddings)]
    assert embed_items.main(["--model-dir", str(run), *flags]) == 0
    return Embedded(run, embeddings)
