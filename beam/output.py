"""The directory that preprocessing writes: what may stand in it, and its manifest, which is written last."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam.accounting import ITEMS, SOURCES, USED
from beam.config import PreprocessConfig
from beam.items import ItemLayout
from beam.shards import write_text
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.schema import GrainKind, Level

_STREAMS = "|".join((schema.ITEMS, *schema.SPLITS))
_SHARD = r"\d{5}-of-\d{5}"
_OURS = re.compile(
    rf"{re.escape(schema.MANIFEST)}|{schema.VOCABULARY_DIR}/\w+\.txt|({_STREAMS})-{_SHARD}\.tfrecord\.gz"
    rf"|rejected-({'|'.join(SOURCES)})-{_SHARD}\.jsonl"
)


def clear(output: str) -> None:
    """Removes what an older run left in a directory: its manifest first, so that the rest is never taken for whole.

    Raises:
        CommandError: something stands there that preprocessing did not write.
    """
    try:
        # In most object stores a directory is only a prefix, and there is nothing to make or to remove.
        found = FileSystems.match([FileSystems.join(output, "**")])[0].metadata_list
    except (BeamIOError, ValueError) as e:
        raise CommandError(
            f"cannot look into the output directory {output}: {e}"
        ) from None
    if not found and FileSystems.exists(output) and Path(output).is_file():
        raise CommandError(f"the output {output} is a file; name a directory")
    paths = {
        metadata.path: metadata.path.removeprefix(output.rstrip("/") + "/")
        for metadata in found
    }
    if others := sorted(name for name in paths.values() if not _OURS.fullmatch(name)):
        raise CommandError(
            f"the output directory {output} holds {others[0]}, which preprocessing did not write; "
            "name an empty or new directory"
        )
    for path in sorted(paths, key=lambda path: (paths[path] != schema.MANIFEST, path)):
        FileSystems.delete([path])


def read_vocabularies(
    output: str, layout: ItemLayout, config: PreprocessConfig
) -> tuple[schema.FeatureSpec, str]:
    """The feature spec with the sizes of the vocabularies written, and their hash.

    Raises:
        CommandError: an attribute column that the config names has no entry; any other one is left out.
    """
    spec = layout.feature_spec(config)
    grains = []
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / schema.VOCABULARY_DIR
        local.mkdir()
        for grain in spec.grains:
            with FileSystems.open(
                FileSystems.join(output, schema.VOCABULARY_DIR, f"{grain.name}.txt")
            ) as file:
                content = file.read()
            (local / f"{grain.name}.txt").write_bytes(content)
            num_entries = content.count(b"\n")
            if not num_entries and grain.kind is not GrainKind.TEXT:
                missing = _no_values(grain, config)
                if grain.name in config.roles:
                    raise CommandError(
                        f'{missing}; fill it or give it the role "ignore"'
                    )
                # Nobody asked for it: the column only bears a name that usually helps.
                say(f"{missing}; it is not used")
                continue
            # Id 0 is what has no entry; n boundaries make n + 1 buckets.
            size = num_entries + (2 if grain.kind is GrainKind.NUMBER else 1)
            grains.append(schema.Grain(name=grain.name, kind=grain.kind, size=size))
        digest = schema.vocabulary_hash(Path(folder), tuple(grains))
    sized = schema.FeatureSpec.from_dict(
        {**spec.to_dict(), "grains": [vars(grain) for grain in grains]}
    )
    return sized, digest


def _no_values(grain: schema.Grain, config: PreprocessConfig) -> str:
    if grain.kind is GrainKind.NUMBER:
        missing = "no item of the catalogue has a value"
    else:
        missing = (
            f"no value occurs min_count = {config.min_count} times in the catalogue"
        )
    return f"expected values in the {grain.kind} column {grain.name}, but {missing}"


def split_counts(
    counters: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, int]]:
    """For each split the number of requests, of distinct queries, and of items by level."""
    levels = [level.name.lower() for level in Level if level is not Level.RANDOM]
    return {
        split: {
            name: counters[split].get(name, 0)
            for name in ("requests", "queries", *levels)
        }
        for split in schema.SPLITS
    }


def write_manifest(
    output: str,
    *,
    layout: ItemLayout,
    config: PreprocessConfig,
    accounting: dict[str, dict[str, int]],
    splits: dict[str, dict[str, int]],
    sources: dict[str, list[str]],
) -> dict[str, Any]:
    """Writes `manifest.json` and gives the summary for the caller.

    Raises:
        CommandError: an attribute column that the config names has no entry in its vocabulary.
    """
    spec, digest = read_vocabularies(output, layout, config)
    manifest = schema.Manifest(
        features=spec,
        num_items=accounting[ITEMS].get(USED, 0),
        splits=splits,
        accounting=accounting,
        sources=sources,
        config=config.to_dict(),
        vocabulary_hash=digest,
    )
    write_text(FileSystems.join(output, schema.MANIFEST), manifest.to_json())
    return {
        "output": output,
        "num_items": manifest.num_items,
        "splits": splits,
        "vocabularies": {grain.name: grain.size for grain in spec.grains},
        "accounting": accounting,
    }
