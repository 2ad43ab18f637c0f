"""The directory that a program here writes: what may stand in it, and how it comes to hold a whole run or none.

Everything is written into a folder inside it first. Once the run is seen to be good, what an older run left goes, its
manifest first, and the new files take their places, the manifest last. So a directory with a manifest is whole.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam.accounting import ITEMS, SOURCES, USED
from beam.config import PreprocessConfig
from beam.items import ItemLayout
from beam.shards import PART, write_text
from tfrs_mmse import embeddings, schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.schema import GrainKind, Level

_STREAMS = "|".join((schema.ITEMS, *schema.SPLITS))
_SHARD = r"\d{5}-of-\d{5}"
_UNFINISHED = "_unfinished"
_LETTERS = rf"rejected-({'|'.join(SOURCES)})-{_SHARD}\.jsonl"
_INDISPENSABLE = ("word", "character")  # no bigram may well occur twice


class Contents(NamedTuple):
    """What a program writes into a directory besides `manifest.json` and dead letters.

    Attributes:
        writer: The program.
        files: A regular expression of the files' names.
    """

    writer: str
    files: str


EXAMPLES = Contents(
    "preprocessing",
    rf"{schema.VOCABULARY_DIR}/\w+\.txt|({_STREAMS})-{_SHARD}\.tfrecord\.gz"
    rf"|{re.escape(schema.STATS)}|{re.escape(schema.STATS_PAGE)}",
)
EMBEDDINGS = Contents("beam.embed_items", rf"{embeddings.EMBEDDINGS}-{_SHARD}\.parquet")


def named(output: str) -> str:
    """An output directory's name in its plain form.

    Raises:
        CommandError: it is none, or would be taken for a pattern.
    """
    if not output:
        raise CommandError("the output must be the name of a directory, got ''")
    if any(mark in output for mark in "*?[]"):
        raise CommandError(
            f"the output {output} holds one of * ? [ ], which stand for other letters; name another directory"
        )
    return output if FileSystems.get_scheme(output) else os.path.normpath(output)


def begin(output: str, contents: Contents = EXAMPLES) -> str:
    """The folder to write a run into, emptied of what an interrupted run left in it.

    Raises:
        CommandError: something stands in the directory that is none of `contents`.
    """
    ours = re.compile(
        rf"{re.escape(schema.MANIFEST)}|{contents.files}|{_LETTERS}|{_UNFINISHED}/.*"
    )
    found = _files(output)
    if not found and FileSystems.exists(output) and Path(output).is_file():
        raise CommandError(f"the output {output} is a file; name a directory")
    if others := sorted(name for name in found if not ours.fullmatch(name)):
        raise CommandError(
            f"the output directory {output} holds {others[0]}, which {contents.writer} did not write; "
            "name an empty or new directory"
        )
    abandon(output, keep_letters=False)
    return FileSystems.join(output, _UNFINISHED)


def abandon(output: str, *, keep_letters: bool = True) -> None:
    """Removes what an unfinished run wrote; its dead letters may stay, for whoever looks for what went wrong."""
    names = [name for name in _files(output) if name.startswith(f"{_UNFINISHED}/")]
    kept = [
        name
        for name in names
        if keep_letters and re.fullmatch(rf"{_UNFINISHED}/{_LETTERS}", name)
    ]
    _delete(output, [name for name in names if name not in kept])
    folder = FileSystems.join(output, _UNFINISHED)
    _delete_folder(FileSystems.join(folder, schema.VOCABULARY_DIR) if kept else folder)


def finish(output: str) -> None:
    """Puts a whole run in the place of an older one."""
    names = _files(output)
    old = [name for name in names if not name.startswith(f"{_UNFINISHED}/")]
    new = [name.removeprefix(f"{_UNFINISHED}/") for name in names if name not in old]
    new = sorted(
        (name for name in new if not name.endswith(PART)),
        key=lambda name: (name == schema.MANIFEST, name),
    )
    is_local = (
        Path(output).is_dir()
    )  # in an object store a directory is only a prefix, and there is nothing to make
    if schema.MANIFEST not in new:
        raise CommandError(
            f"{output} does not hold the manifest that was just written to it: is another run writing there?"
        )
    _delete(output, sorted(old, key=lambda name: (name != schema.MANIFEST, name)))
    for name in new:
        if is_local:
            Path(output, name).parent.mkdir(exist_ok=True)
        FileSystems.rename(
            [FileSystems.join(output, _UNFINISHED, name)],
            [FileSystems.join(output, name)],
        )
    abandon(output, keep_letters=False)


def _files(output: str) -> dict[str, str]:
    """The files in a directory: name below it -> path."""
    try:
        found = FileSystems.match([FileSystems.join(output, "**")])[0].metadata_list
    except (BeamIOError, ValueError) as e:
        raise CommandError(
            f"cannot look into the output directory {output}: {e}"
        ) from None
    return {
        metadata.path.removeprefix(output.rstrip("/") + "/"): metadata.path
        for metadata in found
    }


def _delete(output: str, names: Iterable[str]) -> None:
    for name in names:
        FileSystems.delete([FileSystems.join(output, name)])


def _delete_folder(path: str) -> None:
    if Path(path).is_dir():
        shutil.rmtree(path)


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
            if not num_entries and grain.name in _INDISPENSABLE:
                raise CommandError(
                    f"the vocabulary of {grain.name} is empty: no {grain.name} occurs min_count = {config.min_count} "
                    "times in the catalogue and the train queries; take a larger catalogue or lower min_count"
                )
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
    folder: str,
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
    spec, digest = read_vocabularies(folder, layout, config)
    manifest = schema.Manifest(
        features=spec,
        num_items=accounting[ITEMS].get(USED, 0),
        splits=splits,
        accounting=accounting,
        sources=sources,
        config=config.to_dict(),
        vocabulary_hash=digest,
    )
    write_text(FileSystems.join(folder, schema.MANIFEST), manifest.to_json())
    return {
        "num_items": manifest.num_items,
        "splits": splits,
        "vocabularies": {grain.name: grain.size for grain in spec.grains},
        "accounting": accounting,
    }
