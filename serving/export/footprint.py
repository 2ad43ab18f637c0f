"""How much memory and disk an export will need, estimated before it starts."""

from pathlib import Path

from tfrs_mmse import machine, resources
from tfrs_mmse.cli import CommandError, say
from tfrs_mmse.restore import Trained

_FLOAT = 4  # bytes
# The most that is held of the vectors at once: ScaNN's searcher copies them in the process that checks the new version,
# which has them for filters, too. Their codes, an eighth of them or less, come on top, and pages of the file that they
# lie in, which the kernel takes back when it needs them.
_COPIES = 2
_DISK_COPIES = 3  # the vectors, those in the SavedModel, and codes
# Upper bounds of what real exports held; docs/architecture.md has one of them.
_PROCESSES = 1_600_000_000  # bytes of this process and the one that checks, without vectors and weights
_PER_ITEM = 700  # bytes of an item's id and title in both
_PER_ENTRY = 200  # bytes of a vocabulary's entry, in Python and in a lookup table
# An estimate that is this much too high still lets an export start.
_TOLERANCE = 1.35


def memory(num_items: int, dimensions: int, trained: Trained) -> int:
    """Bytes that all processes of an export hold together at the most: twice the vectors, and what does not grow."""
    features = trained.manifest.features
    weights = _FLOAT * resources.num_weights(trained.config, features)
    entries = sum(grain.size for grain in trained.config.chosen_grains(features))
    model = 2 * (weights + _PER_ENTRY * entries)
    vectors = _FLOAT * num_items * dimensions
    return _COPIES * vectors + _PER_ITEM * num_items + model + _PROCESSES


def check(num_items: int, dimensions: int, trained: Trained, output: Path) -> None:
    """Says what an export will need, and refuses one that certainly finds too little.

    Args:
        num_items: Of the catalogue.
        dimensions: Of a vector.
        trained: The model.
        output: Base path of the versions, where the work is done as well.

    Raises:
        CommandError: there is too little memory or disk.
    """
    need, room = memory(num_items, dimensions, trained), machine.available_memory()
    vectors = _FLOAT * num_items * dimensions
    disk_need, disk_room = _DISK_COPIES * vectors, machine.available_disk(output)
    say(
        f"needs about {_gb(need)} of memory ({_gb(room)} available) and {_gb(disk_need)} of disk "
        f"({_gb(disk_room)} available)"
    )
    what = f"the vectors of {num_items:,} items with {dimensions} dimensions take {_gb(vectors)}"
    if need > _TOLERANCE * room:
        raise CommandError(
            f"the export needs about {_gb(need)} of memory and {_gb(room)} are available: {what}, and are held "
            "twice; give it more memory, or train a model with a smaller embedding_dim"
        )
    if disk_need > disk_room:
        raise CommandError(
            f"the export needs about {_gb(disk_need)} of disk and {_gb(disk_room)} are free for {output}: {what}; "
            "make room, or give an --output elsewhere"
        )


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
