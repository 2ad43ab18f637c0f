"""Which queries an export measures with."""

from pathlib import Path

from serving.export.agreement import Queries
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.corpus import Corpus, read_queries

_NUM_QUERIES = 500  # to measure with, and as many again to tune with


def choose_queries(data: Path, manifest: schema.Manifest, corpus: Corpus) -> Queries:
    """Held-out queries of the log and training queries to tune with; where the log has none, the items' titles."""
    by_split = {
        split: read_queries(data, split, _NUM_QUERIES)
        if manifest.splits.get(split, {}).get("requests")
        else []
        for split in schema.SPLITS
    }
    if by_split[schema.TRAIN] and by_split[schema.TEST]:
        return Queries(
            by_split[schema.TEST],
            by_split[schema.TRAIN],
            f"queries of the {schema.TEST} split",
        )
    if either := by_split[schema.TEST] or by_split[schema.TRAIN]:
        return Queries(
            either[::2],
            either[1::2] or either,
            "queries of the log, which has one split only",
        )
    titles = [
        title.decode("utf-8", "replace") for title in corpus.title[: 4 * _NUM_QUERIES]
    ]
    usable = [
        t
        for t in titles
        if any(c.isalnum() for c in t) and len(t.encode()) <= schema.MAX_QUERY_BYTES
    ]
    if not usable:
        raise CommandError(
            "expected queries or item titles with a letter or digit to measure with, found neither"
        )
    usable = usable[: 2 * _NUM_QUERIES]
    return Queries(
        usable[::2], usable[1::2] or usable, "titles of items, for want of queries"
    )
