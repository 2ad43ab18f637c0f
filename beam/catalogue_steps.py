"""The steps of the pipeline that work on a bucket of items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from beam import examples, featurize, statistics, vocabulary
from beam.accounting import ITEMS, USED, Dropped, count, count_dropped
from beam.buckets import BucketFn, sent
from beam.config import PreprocessConfig
from beam.items import UPDATED_AT, ItemLayout, text_column
from beam.parsing import LINE
from beam.shards import shard_name, write_records
from beam.tables import Schema, by_key, fingerprint, pack, staying, to_askers
from tfrs_mmse import features, schema

FILE = "file"  # number of the file that a row of the catalogue stood in
# An item that a bucket of requests asks for.
ASKED: dict[str, type[pl.DataType]] = {"asker": pl.UInt32, "item_id": pl.String}
# The same with the number of the bucket's train slots that hold it.
COUNTED: dict[str, type[pl.DataType]] = {**ASKED, "num_train": pl.UInt64}


def item_rows(layout: ItemLayout) -> Schema:
    """The columns of a table of the catalogue's rows, as `route_items` sends them."""
    return {**layout.table_schema(), LINE: pl.UInt64, FILE: pl.UInt32}


def keep_items(rows: pl.DataFrame) -> pl.DataFrame:
    """One row of each item: the latest, of equally late ones the first. Counts the others as dropped."""
    rows = rows.sort("item_id", -pl.col(UPDATED_AT), FILE, LINE)
    items = rows.unique("item_id", keep="first", maintain_order=True).drop(
        UPDATED_AT, FILE, LINE
    )
    count_dropped(Dropped.DUPLICATE_ITEM, rows.height - items.height, ITEMS)
    return items


def route_items(items: pl.DataFrame, file: int, *, num_buckets: int) -> Iterator[Any]:
    """Sends the rows of the catalogue to the buckets of their items."""
    rows = items.with_columns(pl.lit(file, pl.UInt32).alias(FILE))
    yield from sent("rows", by_key(rows, "item_id", num_buckets))


class KeepItemsFn(BucketFn):
    """Keeps one row of each item. Tells each asker what it knows."""

    def __init__(self, layout: ItemLayout, config: PreprocessConfig) -> None:
        super().__init__({"rows": item_rows(layout), "asked": ASKED})
        self._kinds = dict(layout.attributes)
        self._texts = [text_column(name) for name in layout.text_fields]
        self._config = config

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        items = keep_items(tables["rows"])
        yield from sent("items", staying(items, number))
        known = tables["asked"].join(items.select("item_id"), on="item_id", how="semi")
        yield from sent("known", to_askers(known))

        texts = pl.concat([items[column].rename("text") for column in self._texts])
        # Categories and phrases come again and again: each is tokenised once.
        distinct = texts.filter(texts != "").value_counts(name="number")
        counted = [
            vocabulary.count_tokens(
                distinct["text"],
                distinct["number"],
                max_words=self._config.max_field_words,
            ),
            vocabulary.count_attributes(items, self._kinds),
        ]
        yield from sent(
            "counts",
            by_key(vocabulary.sum_counts(counted), "entry", self._config.num_shards),
        )


class FeaturizingFn(BucketFn):
    """Builds its lookup tables in the worker, from the vocabularies that come as a side input."""

    def __init__(self, schemas: Mapping[str, Schema], spec: schema.FeatureSpec) -> None:
        super().__init__(schemas)
        self._spec = spec
        self._featurizer: features.Featurizer | None = None

    def featurizer(
        self, vocabularies: Mapping[str, Sequence[str]]
    ) -> features.Featurizer:
        if self._featurizer is None:
            self._featurizer = features.Featurizer(self._spec, vocabularies)
        return self._featurizer


class EncodeItemsFn(FeaturizingFn):
    """Looks up the ids of a bucket's items, writes their records, and sends their pieces to whoever asked."""

    def __init__(
        self, layout: ItemLayout, spec: schema.FeatureSpec, output: str, num_shards: int
    ) -> None:
        columns = layout.table_schema()
        del columns[UPDATED_AT]
        super().__init__({"items": columns, "counted": COUNTED}, spec)
        self._output, self._num_shards = output, num_shards

    def process(
        self, element: Any, vocabularies: Mapping[str, Sequence[str]], num_train: int
    ) -> Iterator[Any]:
        number, tables = self.tables(element)
        counts = tables["counted"].group_by("item_id").agg(pl.col("num_train").sum())
        share = (
            (pl.col("num_train").fill_null(0) / max(num_train, 1))
            .log()
            .cast(pl.Float32)
        )
        items = (
            tables["items"]
            .join(counts, on="item_id", how="left")
            .with_columns(
                log_probability=share, order=fingerprint(tables["items"]["item_id"])
            )
            .sort("order", "item_id")
        )
        items = featurize.encode_items(items, self._spec, self.featurizer(vocabularies))
        pieces = examples.slot_pieces(items, self._spec)
        name = shard_name(schema.ITEMS, number, self._num_shards, ".tfrecord.gz")
        write_records(
            f"{self._output}/{name}", examples.encode_items(items, pieces, self._spec)
        )
        count(ITEMS, USED, items.height)
        yield from statistics.sent_on(statistics.of_items(items, self._spec))
        for asker, asked in (
            tables["counted"].partition_by("asker", as_dict=True).items()
        ):
            answer = pieces.join(asked, on="item_id", how="semi")
            yield from sent("pieces", [(int(asker[0]), pack(answer))])
