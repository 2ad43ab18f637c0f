"""The examples that a training learns from: seen to be whole before it starts, and the same ones when it goes on."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from tfrs_mmse import records, schema
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.shards import Damaged, Shard, examine, unreadable
from tfrs_mmse.streams import stream_files

# What TensorFlow raises for files that are damaged, gone or not to be read, or that hold other records.
_OF_FILES = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnknownError,
)
_ANEW = "write the examples anew with `python -m beam.preprocess`"


class Stream(NamedTuple):
    """A stream that a training reads.

    Attributes:
        name: `schema.TRAIN` or `schema.ITEMS`.
        paths: Its shards.
        num_records: Records in all of them, by the manifest.
        parse: What is done with a batch of serialized records.
    """

    name: str
    paths: Sequence[str]
    num_records: int
    parse: Callable[[tf.Tensor], Any]

    def examine(self, *, every_record: bool) -> list[Shard | Damaged]:
        """What became known of each shard, in their order."""
        found = examine(self.paths)
        if not every_record:
            return found
        whole = [shard.path for shard in found if isinstance(shard, Shard)]
        unusable = {shard.path: shard for shard in unreadable(whole, self.parse)}
        return [unusable.get(shard.path, shard) for shard in found]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """What a training uses of a directory of examples.

    Attributes:
        streams: Those that it reads.
        manifest: The manifest, with the numbers of records that are left.
        left_out: Names of damaged shards that are not used.
        num_left_out: Records that the manifest counts and the used shards do not hold.
        record_bytes: Mean size of an unpacked record, by stream.
        fingerprint: SHA-256 over the shards that are used; other bytes or another order give another one.
    """

    streams: tuple[Stream, ...]
    manifest: schema.Manifest
    left_out: tuple[str, ...]
    num_left_out: int
    record_bytes: dict[str, float]
    fingerprint: str

    @property
    def description(self) -> dict[str, Any]:
        """What a model directory keeps of them."""
        return {"fingerprint": self.fingerprint, "left_out": list(self.left_out)}

    def check_same(
        self, former: dict[str, Any] | None, model_dir: Path, data: Path
    ) -> None:
        """Refuses to go on with other examples than a run began with: it would end as no uninterrupted one does.

        Args:
            former: Their description; None if an older version began the run, which kept none.
            model_dir: The run's directory.
            data: Directory of examples.

        Raises:
            CommandError: they are others.
        """
        if former is None or former == self.description:
            return
        without = former["left_out"]
        began = f" without {', '.join(without)}" if without else ""
        raise CommandError(
            f"{model_dir} holds a run that began{began} on other records than {data} offers now: bring back the files "
            "that it began with, or give another --model-dir"
        )

    @contextlib.contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Turns an error of TensorFlow's into a sentence if a shard is the cause.

        Raises:
            CommandError: a shard cannot be used any more.
        """
        try:
            yield
        except _OF_FILES:
            damaged = [
                shard
                for stream in self.streams
                for shard in stream.examine(every_record=True)
                if isinstance(shard, Damaged)
                and Path(shard.path).name not in self.left_out
            ]
            if not damaged:
                raise
            raise CommandError(
                f"{_sentence(damaged)}: bring back what the run began with and run the same command again, or {_ANEW} "
                "and train into another --model-dir"
            ) from None


def check(
    data: Path,
    manifest: schema.Manifest,
    config: TrainConfig,
    *,
    skip_corrupt: bool = False,
    tell: Callable[[str], None] = say,
) -> Examples:
    """Reads every shard that a training will use to its end.

    Args:
        data: Directory of examples.
        manifest: Its manifest.
        config: Says which streams are used.
        skip_corrupt: Whether damaged shards are left out, each as a whole, and said. Every record is parsed then, so
            that one that nobody can use is found now and not when the training comes to it.
        tell: What it is said by.

    Raises:
        CommandError: a shard is damaged, or nothing is left without those that are; or vocabularies or numbers of
            records are not what the manifest says.
    """
    _check_vocabularies(data, manifest)
    streams = _streams(data, manifest, config)
    used: dict[str, list[Shard]] = {}
    damaged: list[Damaged] = []
    for stream in streams:
        found = stream.examine(every_record=skip_corrupt)
        used[stream.name] = [s for s in found if isinstance(s, Shard)]
        damaged += [s for s in found if isinstance(s, Damaged)]
    if damaged and not skip_corrupt:
        raise CommandError(
            f"{_sentence(damaged)}: {_ANEW}, or leave such shards out by --skip-corrupt"
        )
    left = {name: sum(s.num_records for s in shards) for name, shards in used.items()}
    for stream in streams:
        _check_number(stream, left[stream.name], damaged, data)
    num_left_out = sum(s.num_records - left[s.name] for s in streams)
    for shard in damaged:
        tell(f"left out: {shard.path} ({shard.reason})")
    if damaged:
        tell(
            f"{len(damaged)} damaged shards with {num_left_out} of "
            f"{sum(s.num_records for s in streams)} records are left out"
        )
    digests = [
        [Path(s.path).name, s.digest] for shards in used.values() for s in shards
    ]
    return Examples(
        streams=streams,
        manifest=_with_counts(manifest, left),
        left_out=tuple(Path(shard.path).name for shard in damaged),
        num_left_out=num_left_out,
        record_bytes={
            name: sum(shard.num_bytes for shard in shards) / left[name]
            for name, shards in used.items()
        },
        fingerprint=hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
    )


def _streams(
    data: Path, manifest: schema.Manifest, config: TrainConfig
) -> tuple[Stream, ...]:
    spec = manifest.features
    streams = []
    if config.use_log:
        streams.append(
            Stream(
                schema.TRAIN,
                tuple(stream_files(data, schema.TRAIN)),
                manifest.splits[schema.TRAIN]["requests"],
                lambda serialized: records.parse_requests(serialized, spec),
            )
        )
    if config.num_random_items:
        streams.append(
            Stream(
                schema.ITEMS,
                tuple(stream_files(data, schema.ITEMS)),
                manifest.num_items,
                lambda serialized: records.parse_catalogue(serialized, spec),
            )
        )
    return tuple(streams)


def _check_vocabularies(data: Path, manifest: schema.Manifest) -> None:
    found = schema.vocabulary_hash(data, manifest.features.grains)
    if found != manifest.vocabulary_hash:
        raise CommandError(
            f"the vocabularies in {data} ({found[:12]}) are not those that its {schema.MANIFEST} names "
            f"({manifest.vocabulary_hash[:12]}): {_ANEW}"
        )


def _check_number(
    stream: Stream, num_left: int, damaged: Sequence[Damaged], data: Path
) -> None:
    """Makes sure that a stream holds as many records as the manifest says, or fewer if there are damaged shards."""
    is_less = any(shard.path in stream.paths for shard in damaged)
    if num_left > stream.num_records or (num_left < stream.num_records and not is_less):
        raise CommandError(
            f"the {stream.name!r} shards in {data} hold {num_left} records, but its {schema.MANIFEST} counts "
            f"{stream.num_records}, so some are of another run: {_ANEW}"
        )
    if not num_left:
        raise CommandError(
            f"no usable {stream.name!r} record is left: {_sentence(damaged)}; {_ANEW}"
        )


def _with_counts(manifest: schema.Manifest, left: dict[str, int]) -> schema.Manifest:
    splits = dict(manifest.splits)
    if schema.TRAIN in left:
        splits[schema.TRAIN] = {
            **splits[schema.TRAIN],
            "requests": left[schema.TRAIN],
        }
    return dataclasses.replace(
        manifest,
        num_items=left.get(schema.ITEMS, manifest.num_items),
        splits=splits,
    )


def _sentence(damaged: Sequence[Damaged]) -> str:
    first, *others = damaged
    more = f", nor {len(others)} more" if others else ""
    return f"the shard {first.path} cannot be used ({first.reason}){more}"
