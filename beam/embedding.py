"""One run of embedding a catalogue: checks model and input, runs the pipeline, checks the outcome, says what it is."""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.ml.inference.base import RunInference

from beam import depot as depots
from beam import output as outputs
from beam import progress
from beam.accounting import (
    ITEMS,
    PARTS,
    USED,
    check_balance,
    check_parts,
    check_rejected,
    count,
    read_counters,
    table,
)
from beam.buckets import BucketFn, PerBucket, tagged
from beam.catalogue_steps import item_rows, keep_items, route_items
from beam.config import PreprocessConfig
from beam.item_columns import known_layout
from beam.item_tower import ItemTable, ItemTower, ItemTowerHandler
from beam.items import ItemLayout, attribute_column, parse_items, text_column
from beam.local import make_pipeline, run
from beam.reading import ReadLog, plain_size
from beam.shards import write_parquet, write_text
from beam.sources import match_files, read_head
from beam.tables import fingerprint
from tfrs_mmse import cli, embeddings, schema

_SHARD_BYTES = (
    4 << 20
)  # of the unpacked catalogue; the vectors of a shard are some ten times as large
_MAX_SHARDS = 4096
_SAMPLE = 2  # items of a shard


def embed_catalogue(
    model_dir: Path,
    items: Sequence[str],
    output: str,
    config: PreprocessConfig | None,
    beam_flags: Sequence[str] = (),
    *,
    max_rejected: float | None = None,
) -> dict[str, Any]:
    """Embeds a catalogue; see `beam.embed_items`.

    Args:
        model_dir: Directory that `python -m tfrs_mmse.train` wrote.
        items: Patterns of the catalogue's files.
        output: The directory to write.
        config: How to read the catalogue; None: as the model's examples were read.
        beam_flags: Pipeline options of Beam, as on its command line.
        max_rejected: The share of the rows that may be rejected; None: the config's.

    Returns:
        The summary: `output`, `num_items`, `dimensions`, `num_shards`, `model_fingerprint` and `accounting`.

    Raises:
        CommandError: model or input cannot be used, or too much of the input cannot.
    """
    output = outputs.named(output)
    files = match_files(items, source=ITEMS)
    path, rows = read_head(list(files), source=ITEMS)
    facts = ItemTower(model_dir).facts()
    config = config or PreprocessConfig.from_dict(facts.preprocessing)
    layout = known_layout(facts.features, rows, config, path=path)
    if layout.unused:
        cli.say(f"columns that the model does not read: {', '.join(layout.unused)}")
    num_bytes = plain_size(files)
    num_shards = min(math.ceil(num_bytes / _SHARD_BYTES) or 1, _MAX_SHARDS)
    folder = outputs.begin(output, outputs.EMBEDDINGS)
    try:
        cli.say(f"embedding {len(files)} item files into {output}")
        with depots.opened(folder, beam_flags) as depot:
            pipeline = make_pipeline(beam_flags, num_bytes=num_bytes)
            build(
                pipeline,
                files=files,
                layout=layout,
                handler=ItemTowerHandler(model_dir, facts.fingerprint),
                output=folder,
                num_shards=num_shards,
                depot=depot,
            )
            with progress.shown():
                result = run(pipeline)
        accounting = read_counters(result, [ITEMS, PARTS])
        check_parts(accounting.pop(PARTS))
        cli.say(table(accounting))
        check_balance(accounting)
        if max_rejected is None:
            max_rejected = config.max_rejected
        check_rejected(accounting, max_rejected=max_rejected, letters=folder)
        manifest = embeddings.EmbeddingsManifest(
            features=facts.features,
            vocabulary_hash=facts.vocabulary_hash,
            model_fingerprint=facts.fingerprint,
            dimensions=facts.dimensions,
            num_items=accounting[ITEMS].get(USED, 0),
            num_shards=num_shards,
            accounting=accounting,
            sources=list(files),
        )
        write_text(f"{folder}/{schema.MANIFEST}", manifest.to_json())
        outputs.finish(output)
    except BaseException:
        outputs.abandon(output)
        raise
    return {
        "output": output,
        "num_items": manifest.num_items,
        "dimensions": manifest.dimensions,
        "num_shards": num_shards,
        "model_fingerprint": manifest.model_fingerprint,
        "accounting": accounting,
    }


def build(
    pipeline: beam.Pipeline,
    *,
    files: Mapping[str, int],
    layout: ItemLayout,
    handler: ItemTowerHandler,
    output: str,
    num_shards: int,
    depot: str | None,
) -> None:
    """Adds all steps to a pipeline: the rows of one item meet in its bucket, and a bucket becomes a shard.

    Vectors never travel: the worker that has a bucket's rows together embeds them and writes the shard.

    Args:
        pipeline: The pipeline.
        files: Files of the catalogue and their sizes.
        layout: What its columns are used for.
        handler: The item tower.
        output: The directory that shards and dead letters are written to.
        num_shards: Shards, and buckets.
        depot: A folder for what is shuffled (`beam/depot.py`); None: the runner shuffles it.
    """
    rows = pipeline | "ReadItems" >> ReadLog(
        ITEMS,
        files,
        parse=functools.partial(parse_items, layout=layout),
        route=functools.partial(route_items, num_buckets=num_shards),
        tags=["rows"],
        output=output,
        redact=False,
    )
    kept = {"rows": rows.rows} | "KeepItems" >> PerBucket(
        _KeepItemsFn(layout), num_buckets=num_shards, depot=depot, outputs=["batches"]
    )
    _ = (
        kept.batches
        | "EmbedItems" >> RunInference(handler)
        | "WriteShards" >> beam.ParDo(_WriteShardFn(layout, output, num_shards))
    )


class _KeepItemsFn(BucketFn):
    """Keeps one row of each item, in an order that depends on the ids alone."""

    def __init__(self, layout: ItemLayout) -> None:
        super().__init__({"rows": item_rows(layout)})

    def process(self, element: Any) -> Iterator[Any]:
        number, tables = self.tables(element)
        items = keep_items(tables["rows"])
        items = items.with_columns(order=fingerprint(items["item_id"]))
        items = items.sort("order", "item_id").drop("order")
        # A batch of RunInference: here, of one table.
        yield from tagged("batches", [[ItemTable(number, items)]])


class _WriteShardFn(beam.DoFn):
    def __init__(self, layout: ItemLayout, output: str, num_shards: int) -> None:
        super().__init__()
        self._layout, self._output, self._num_shards = layout, output, num_shards

    def process(self, element: Any) -> Iterator[str]:
        batch: ItemTable = element.example
        items = batch.items
        name = embeddings.shard_name(batch.number, self._num_shards)
        write_parquet(
            f"{self._output}/{name}",
            shard_table(items, element.inference, self._layout),
            uncompressed=embeddings.EMBEDDING,
        )
        count(ITEMS, USED, items.height)
        yield name


def shard_table(
    items: pl.DataFrame, vectors: np.ndarray, layout: ItemLayout
) -> pa.Table:
    """A shard: id, title, attributes and embedding of each item, and the raw fields of its first ones as metadata.

    Args:
        items: N items, a table of `ItemLayout.table_schema`.
        vectors: [N, D] float32.
        layout: Names the fields.
    """
    first = items.head(_SAMPLE).with_columns(pl.col(pl.Float64).fill_nan(None))
    fields = {name: first[text_column(name)].to_list() for name in layout.text_fields}
    for name, _ in layout.attributes:
        fields[name] = first[attribute_column(name)].to_list()
    columns = {
        embeddings.ITEM_ID: pa.array(items["item_id"].to_list(), pa.string()),
        embeddings.TITLE: pa.array(
            items[text_column(layout.text_fields[0])].to_list(), pa.string()
        ),
        embeddings.EMBEDDING: pa.FixedSizeListArray.from_arrays(
            vectors.reshape(-1), vectors.shape[1]
        ),
    }
    for name, kind in layout.attributes:
        values = items[attribute_column(name)].to_numpy()
        columns[embeddings.value_column(name)] = (
            pa.array(values.astype(np.float32))
            if kind is schema.GrainKind.NUMBER
            else pa.array(values, pa.string())
        )
    return pa.table(columns).replace_schema_metadata(
        {embeddings.SAMPLE: json.dumps(fields)}
    )
