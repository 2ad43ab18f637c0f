"""What is served: a simulated shop, a model trained on it, and exports of catalogues of several sizes."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import steps
from serving.index.scann_build import ScannSettings
from tfrs_mmse import cli

WORK = steps.ROOT / "benchmarks/work/serve"
_EXAMPLES, _RUN, _LOG = WORK / "examples", WORK / "run", WORK / "log"
_SHOP_ITEMS, _SHOP_REQUESTS = 100_000, 40_000
# Three text grains of 64 dimensions and the shop's attributes of 16.
_SETTINGS = ("epochs=1", "embedding_dim=64", "attribute_dim=16")


class Shop(NamedTuple):
    """A trained shop.

    Attributes:
        data: Flags of every command that takes examples and a model.
        queries: Held-out queries of the log.
    """

    data: list[object]
    queries: list[str]


def make_shop() -> Shop:
    """Simulates, preprocesses and trains, once."""
    logs = WORK / "logs"
    data = ["--data", _EXAMPLES, "--model-dir", _RUN]
    done = WORK / "queries.json"
    if not done.exists():
        shutil.rmtree(WORK, ignore_errors=True)
        cli.say(f"simulating a shop of {_SHOP_ITEMS} items and training on it, once")
        sizes = ["--requests", _SHOP_REQUESTS, "--items", _SHOP_ITEMS]
        steps.run("beam.simulate", "--output", logs, *sizes, log=_LOG)
        files = ["--events", f"{logs}/events.*", "--items", f"{logs}/items.*"]
        steps.run("beam.preprocess", *files, "--output", _EXAMPLES, log=_LOG)
        settings = [word for setting in _SETTINGS for word in ("--set", setting)]
        steps.run("tfrs_mmse.train", *data, *settings, log=_LOG)
        from tfrs_mmse.corpus import read_queries

        done.write_text(json.dumps(read_queries(_EXAMPLES, "test", 2_000)))
    return Shop([*data], json.loads(done.read_text()))


def make_export(shop: Shop, num_items: int, index: str, k: int) -> dict[str, Any]:
    """Exports a catalogue of so many items, once.

    Returns:
        What the export printed.
    """
    output = WORK / f"models-{num_items}-{index}"
    done = output / "export.json"
    if not done.exists():
        shutil.rmtree(output, ignore_errors=True)
        flags: list[object] = ["--index", index, "--k", k, "--target-recall", 0.95]
        if num_items != _SHOP_ITEMS:
            flags += ["--embeddings", _embed(shop, num_items)]
        cli.say(f"exporting {num_items} items, index {index}, once")
        made = steps.run(
            "serving.export", *shop.data, *flags, "--output", output, log=_LOG
        )
        done.write_text(json.dumps(made))
    return json.loads(done.read_text())


def _embed(shop: Shop, num_items: int) -> Path:
    """The vectors of another, larger catalogue of the same kind."""
    embeddings, catalogue = WORK / f"vectors-{num_items}", WORK / f"items-{num_items}"
    if not (embeddings / "manifest.json").exists():
        shutil.rmtree(embeddings, ignore_errors=True)
        cli.say(f"simulating and embedding a catalogue of {num_items} items, once")
        sizes = ["--requests", 1, "--items", num_items, "--seed", 1]
        steps.run("beam.simulate", "--output", catalogue, *sizes, log=_LOG)
        flags = ["--model-dir", _RUN, "--items", f"{catalogue}/items.*"]
        steps.run("beam.embed_items", *flags, "--output", embeddings, log=_LOG)
        shutil.rmtree(catalogue)
    return embeddings


def read_vectors(shop: Shop, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the catalogue's items, [N, D], and of the held-out queries, [Q, D]."""
    from serving.export.catalogue import embed_catalogue
    from serving.export.embeddings import read_embeddings
    from tfrs_mmse.corpus import embed_queries
    from tfrs_mmse.restore import load_trained

    trained = load_trained(_EXAMPLES, _RUN)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "embeddings.npy")
        if num_items == _SHOP_ITEMS:
            corpus = embed_catalogue(trained, _EXAMPLES, path)
        else:
            corpus = read_embeddings(_embed(shop, num_items), trained, path)
        item = np.array(corpus.embedding)
    return item, embed_queries(trained, shop.queries)


def scann_settings(manifest: dict[str, Any]) -> ScannSettings:
    """The fastest of ScaNN's settings that the export measured and that reached its target."""
    tuning = manifest["tuning"]
    names = [field.name for field in dataclasses.fields(ScannSettings)]
    trials = [t for t in tuning["curve"] if t["kind"] == "scann"]
    good = [t for t in trials if t["recall"] >= tuning["target_recall"]]
    fastest = min(good or trials, key=lambda trial: trial["ms"])
    return ScannSettings(**{name: fastest[name] for name in names})
