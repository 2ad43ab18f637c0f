"""Writes tiny shops: records and an untrained model, with every word of them under the test's control."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfrs_mmse import restore, run_directory, schema
from tfrs_mmse.checkpoints import Checkpoints
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.features import Featurizer
from tfrs_mmse.model import TwoTowerModel

Record = dict[str, list[Any]]
Requests = Sequence[tuple[str, Mapping[str, int]]]


def feature(values: list[Any]) -> tf.train.Feature:
    if all(isinstance(v, str) for v in values):
        return tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[v.encode() for v in values])
        )
    if all(isinstance(v, int) for v in values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write_records(path: Path, records: list[Record]) -> None:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            features = tf.train.Features(
                feature={name: feature(values) for name, values in record.items()}
            )
            writer.write(tf.train.Example(features=features).SerializeToString())


def request_record(query: str, levels: Mapping[str, int]) -> Record:
    return {
        schema.QUERY: [query],
        schema.ITEM_ID: list(levels),
        schema.LEVEL: list(levels.values()),
    }


class ShopWriter:
    """A directory with `examples/` and an untrained model in `run/`."""

    def __init__(
        self, root: Path, words: Sequence[str], categories: Sequence[str] = ()
    ) -> None:
        self.data, self.run = root / "examples", root / "run"
        (self.data / schema.VOCABULARY_DIR).mkdir(parents=True)
        self._vocabularies = {"word": list(words)}
        grains = [
            schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=len(words) + 1)
        ]
        if categories:
            self._vocabularies["category"] = list(categories)
            grains.append(
                schema.Grain(
                    name="category",
                    kind=schema.GrainKind.CATEGORICAL,
                    size=len(categories) + 1,
                )
            )
        for name, entries in self._vocabularies.items():
            path = self.data / schema.VOCABULARY_DIR / f"{name}.txt"
            path.write_text("".join(f"{e}\n" for e in entries), encoding="utf-8")
        self._spec = schema.FeatureSpec(
            text_fields=("title",),
            grains=tuple(grains),
            max_query_words=8,
            max_field_words=8,
        )
        self._featurizer = Featurizer(self._spec, self._vocabularies)
        self._splits: dict[str, dict[str, int]] = {}

    def write_items(
        self, texts: Mapping[str, str], categories: Mapping[str, int] | None = None
    ) -> None:
        """Two shards of items with these texts, whose first line is the title, and category ids."""
        records = [
            self._item(item_id, text, (categories or {}).get(item_id, 0))
            for item_id, text in texts.items()
        ]
        half = (len(records) + 1) // 2
        write_records(self.data / "items-00000-of-00002.tfrecord.gz", records[:half])
        write_records(self.data / "items-00001-of-00002.tfrecord.gz", records[half:])
        self._num_items = len(texts)

    def write_requests(self, split: str, requests: Requests) -> None:
        """One shard of requests with these levels by item."""
        records = [request_record(*request) for request in requests]
        write_records(self.data / f"{split}-00000-of-00001.tfrecord.gz", records)
        self._splits[split] = {"requests": len(records)}

    def write_model(self, config: TrainConfig) -> None:
        """The manifest, and a model with its first weights."""
        manifest = schema.Manifest(
            features=self._spec,
            num_items=self._num_items,
            splits=self._splits,
            accounting={},
            sources={},
            config={},
            vocabulary_hash=schema.vocabulary_hash(self.data, self._spec.grains),
        )
        (self.data / schema.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        tf.keras.utils.set_random_seed(0)
        model = TwoTowerModel(manifest.features, config, num_items=self._num_items)
        restore.build(model, self._featurizer)
        self.run.mkdir()
        (self.run / schema.CONFIG).write_text(
            json.dumps(run_directory.description(config, manifest))
        )
        Checkpoints(self.run, model=model).save(0)

    def _item(self, item_id: str, text: str, category: int) -> Record:
        fields = {"title": tf.constant([text]), "category": tf.constant([""])}
        ids = self._featurizer.items(fields)["word"].to_list()[0][0]
        record: Record = {
            schema.ITEM_ID: [item_id],
            schema.TITLE: [text.split("\n")[0]],
            schema.TEXT: [text],
            schema.LOG_PROBABILITY: [-1.0],
            schema.item_feature("word"): ids,
            schema.item_lengths("word"): [len(ids)],
        }
        if "category" in self._vocabularies:
            record[schema.item_feature("category")] = [category]
        return record


@pytest.fixture(scope="session")
def shop_writer() -> Callable[..., ShopWriter]:
    return ShopWriter


@pytest.fixture(scope="session")
def write_requests() -> Callable[[Path, Requests], None]:
    """Writes one shard of requests over another."""

    def write(path: Path, requests: Requests) -> None:
        write_records(path, [request_record(*request) for request in requests])

    return write


@pytest.fixture(scope="session", name="write_records")
def write_records_fixture() -> Callable[[Path, list[Record]], None]:
    """Writes one shard of any records."""
    return write_records
