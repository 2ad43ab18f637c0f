"""The log as files: `items.jsonl.gz` and `events.jsonl.gz`, the same bytes for the same content."""

import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from beam.shop import vocabulary
from beam.shop.catalogue import Catalogue
from beam.shop.queries import Queries
from beam.shop.simulation import Events, Kind

_GZIP_LEVEL = 4  # of 1 to 9: half the time of the usual 6, a tenth more bytes


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which becomes `path` when all went well: no half-written file bears the final name."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_items(path: Path, catalogue: Catalogue) -> None:
    """Writes one JSON object per item: its texts, attributes, price, and the second of its launch."""
    slot = {name: vocabulary.SLOTS.index(name) for name in vocabulary.SLOTS}
    with _gzip_text(path) as file:
        for item, item_id in enumerate(catalogue.item_id):
            product_type = catalogue.types[catalogue.type[item]]
            row = {
                "item_id": item_id,
                "title": catalogue.title[item],
                "brand": catalogue.value(item, slot["brand"]).capitalize(),
                "category": product_type.category,
                "department": product_type.department,
                "price": round(float(catalogue.price[item]), 2),
                "color": catalogue.value(item, slot["color"]),
                "material": catalogue.value(item, slot["material"]),
                "audience": catalogue.value(item, slot["audience"]),
                "description": catalogue.description[item],
                "launched": int(catalogue.launch[item]),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_events(
    path: Path, chunks: Iterable[Events], *, catalogue: Catalogue, queries: Queries
) -> None:
    """Writes one JSON object per event. Impressions and clicks name their position; late orders name no request."""
    # Formatting is most of the work of a million events: strings are escaped once, and rows pasted together.
    query_part = [
        f'"query": {json.dumps(text, ensure_ascii=False)}, ' for text in queries.text
    ]
    kinds = [f'{{"event": "{kind.name.lower()}", ' for kind in Kind]
    with _gzip_text(path) as file:
        for events in chunks:
            columns = (
                events.kind,
                events.time,
                events.request,
                events.query,
                events.item,
            )
            rows = zip(
                *(c.tolist() for c in (*columns, events.position, events.user)),
                strict=True,
            )
            file.writelines(
                kinds[kind]
                + (f'"request_id": "r{request:08d}", ' if request >= 0 else "")
                + f'"timestamp": {time}, '
                + (query_part[query] if query >= 0 else "")
                + f'"item_id": "{catalogue.item_id[item]}", '
                + (f'"position": {position}, ' if position >= 0 else "")
                + f'"user_id": "u{user:07d}"}}\n'
                for kind, time, request, query, item, position, user in rows
            )


@contextmanager
def _gzip_text(path: Path) -> Iterator[TextIO]:
    """A text file, gzipped without name and time, so that its bytes depend on its content alone."""
    with (
        whole_file(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile(
            filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=_GZIP_LEVEL
        ) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text
