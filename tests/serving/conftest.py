"""A small shop: a real featurizer, a model of one random vector per word, and versions exported from them."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from serving.export import check, tuning
from serving.export.agreement import Queries
from serving.export.config import ExportConfig
from serving.export.exporter import export_model
from serving.export.verify import answer
from serving.server.model_config import ModelConfig
from serving.server.servable import Servable
from tests.serving.serving_here import Served, serve_here
from tfrs_mmse import schema
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.corpus import Corpus
from tfrs_mmse.features import Featurizer
from tfrs_mmse.restore import Trained

ROOT = Path(__file__).resolve().parents[2]
COLOURS = [
    "red",
    "blue",
    "green",
    "black",
    "white",
    "pink",
    "grey",
    "gold",
    "teal",
    "lime",
]
THINGS = ["shoe", "hat", "lamp", "chair", "cup", "book", "ring", "sofa", "fork", "desk"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """For the conformance test."""
    parser.addoption("--target", help="gRPC HOST:PORT of a server that runs already")
    parser.addoption("--rest-target", help="its REST API's HOST:PORT")
    parser.addoption("--version-dir", help="the exact export that it serves as `shop`")


class WordModel(tf.Module):
    """Each text's vector is the mean direction of its words; items of a known brand are a little longer."""

    def __init__(self, num_words: int, dimensions: int = 16) -> None:
        super().__init__()
        self.table = tf.Variable(
            np.random.default_rng(0).normal(size=(num_words, dimensions)),
            dtype=tf.float32,
        )

    def query_embedding(self, ids: dict[str, tf.RaggedTensor]) -> tf.Tensor:
        return tf.math.l2_normalize(
            tf.reduce_sum(tf.gather(self.table, ids["word"]), axis=1), axis=1
        )

    def item_embedding(self, ids: dict[str, Any]) -> tf.Tensor:
        known = 1 + 0.1 * tf.cast(ids["Brand (EU)"] > 0, tf.float32)
        # Fields are told apart, [N, F, (tokens)]: here a word is a word wherever it stands.
        words = ids["word"].merge_dims(1, 2)
        return known[:, None] * self.query_embedding({"word": words})


class Shop(NamedTuple):
    """What an export takes."""

    trained: Trained
    corpus: Corpus
    queries: Queries


def make_attributes(num_items: int) -> dict[str, np.ndarray]:
    """Of item n: brand Acme or zeta or none, by n mod 3; price n, but none of every tenth item."""
    number = np.arange(num_items)
    return {
        "Brand (EU)": np.array([b"Acme", b"zeta", b""], dtype=object)[number % 3],
        "price": np.where(number % 10 == 9, np.nan, number).astype(np.float32),
    }


def make_shop(titles: list[str]) -> Shop:
    text, categorical, number = (
        schema.GrainKind.TEXT,
        schema.GrainKind.CATEGORICAL,
        schema.GrainKind.NUMBER,
    )
    vocabularies = {
        "word": COLOURS + THINGS,
        "bigram": ["red shoe"],
        "character": ["_re"],
        "Brand (EU)": ["acme"],
        "price": ["1.0", "5.0"],
    }
    kinds = {
        "word": text,
        "bigram": text,
        "character": text,
        "Brand (EU)": categorical,
        "price": number,
    }
    grains = tuple(
        schema.Grain(name=n, kind=kinds[n], size=len(v) + 1)
        for n, v in vocabularies.items()
    )
    spec = schema.FeatureSpec(
        text_fields=("title",), grains=grains, max_query_words=8, max_field_words=16
    )
    manifest = schema.Manifest(
        features=spec,
        num_items=len(titles),
        splits={},
        accounting={},
        sources={},
        config={},
        vocabulary_hash="",
    )
    featurizer = Featurizer(spec, vocabularies)
    model = WordModel(len(vocabularies["word"]) + 1)
    fields = {
        "title": tf.constant(titles),
        "Brand (EU)": tf.constant([""] * len(titles)),
        "price": tf.fill([len(titles)], np.nan),
    }
    corpus = Corpus(
        item_id=np.array([b"i%d" % n for n in range(len(titles))], dtype=object),
        embedding=model.item_embedding(featurizer.items(fields)).numpy(),
        title=np.array([title.encode() for title in titles], dtype=object),
        attributes=make_attributes(len(titles)),
    )
    queries = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    return Shop(
        Trained(TrainConfig(), manifest, featurizer, model),
        corpus,
        Queries(queries[::2], queries[1::2], "made up"),
    )


@pytest.fixture(scope="session")
def shop() -> Shop:
    """100 items, `i0` red shoe to `i99` lime desk."""
    return make_shop([f"{colour} {thing}" for colour in COLOURS for thing in THINGS])


@pytest.fixture(scope="session")
def shop_of() -> Callable[[list[str]], Shop]:
    """Makes a shop with items of the given titles, `i0`, `i1`, ..."""
    return make_shop


@pytest.fixture(scope="session")
def exact_version(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published exact version with k=5."""
    output = tmp_path_factory.mktemp("exact")
    return Path(
        export_model(*shop, output, ExportConfig(index="exact", k=5), source={})["path"]
    )


@pytest.fixture(scope="session")
def scann_version(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published ScaNN version with k=5: in so small a shop, exact search would be chosen for its speed."""
    output = tmp_path_factory.mktemp("scann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "run_verify", _verify_here)
        patch.setattr(tuning, "time_trials", scann_is_faster)
        # All 100 items are candidates, so that answers can be compared with brute force.
        patch.setattr(tuning, "_REORDER", (20,))
        return Path(
            export_model(*shop, output, ExportConfig(index="scann", k=5), source={})[
                "path"
            ]
        )


def scann_is_faster(
    tried: list[tuning.Tried], query: np.ndarray
) -> list[tuple[float, float]]:
    """In place of a clock: exact search takes 10 ms, ScaNN 1 ms and some more for each candidate."""
    return [
        (1 + t.settings.num_reorder / 1000, 1.0) if t.settings else (10.0, 10.0)
        for each in tried
        for t in each.trials
    ]


@pytest.fixture
def verify_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the start of a process where a test is not about its being fresh."""
    monkeypatch.setattr(check, "run_verify", _verify_here)


def _verify_here(version_dir: Path, scratch: Path) -> dict[str, Any]:
    servable = Servable(version_dir)
    requests = json.loads((scratch / "requests.json").read_text())
    np.savez(
        scratch / "answers.npz", allow_pickle=False, **answer(servable, **requests)
    )  # type: ignore[arg-type]
    return {"required_custom_ops": servable.required_custom_ops}


@pytest.fixture(scope="session")
def served(exact_version: Path) -> Iterator[Served]:
    """`shop` served on a real socket."""
    with serve_here(ModelConfig("shop", exact_version.parent)) as served:
        yield served


class ServerProcess(NamedTuple):
    """A `serving.server` in its own process.

    Attributes:
        lines: What it has said on stderr so far; grows.
    """

    process: subprocess.Popen[str]
    target: str
    lines: list[str]


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Starts `python -m serving.server` and waits until it serves; kills what is left."""
    started: list[subprocess.Popen[str]] = []

    def start(base_path: Path | None, *flags: str) -> ServerProcess:
        command = [sys.executable, "-m", "serving.server"]
        if base_path is not None:
            command += ["--model_base_path", str(base_path), "--model_name", "shop"]
        command += ["--port", "0", "--host", "127.0.0.1", *flags]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        lines: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if ready := re.search(r"serving shop version \d+ on (\S+)", line):
                threading.Thread(
                    target=_collect, args=(process.stderr, lines), daemon=True
                ).start()
                return ServerProcess(process, ready[1], lines)
        raise AssertionError("\n".join(lines))

    yield start
    for process in started:
        process.kill()
        process.wait()


def _collect(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))
