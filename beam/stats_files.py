"""`stats.json` and `stats.html` of a run: read from an earlier one, and written."""

import json
from collections.abc import Mapping
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam import stats_page
from beam.drift import Change, changes
from beam.shards import write_text
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError


def read_stats(directory: str, *, must_exist: bool = True) -> dict[str, Any] | None:
    """`stats.json` of a run; None where there is none and none must be.

    Raises:
        CommandError: it must be there and is not, or it cannot be read.
    """
    path = FileSystems.join(directory, schema.STATS)
    try:
        if not must_exist and not FileSystems.exists(path):
            return None
        with FileSystems.open(path) as file:
            stats = json.loads(file.read())
        changes(stats, stats)  # it has the form that a comparison needs
        return stats
    except (
        OSError,
        BeamIOError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as e:
        raise CommandError(
            f"expected the statistics of an earlier run in {path}, but it cannot be read ({e}); name the output "
            "directory of one, or remove the file"
        ) from None


def write_stats(
    folder: str,
    *,
    accounting: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, Mapping[str, int]],
    before: Mapping[str, Any] | None,
    compared_to: str,
) -> list[Change]:
    """Completes the statistics that the pipeline wrote, and makes the page of them.

    Args:
        folder: Where the run is being written.
        accounting: Where every row of each source went.
        splits: Requests, queries and items of each split.
        before: Statistics of an earlier run, if there is one.
        compared_to: Where that is.

    Returns:
        What has changed since the earlier run.
    """
    counted = read_stats(folder) or {}
    stats = {
        "format_version": schema.FORMAT_VERSION,
        "accounting": accounting,
        "splits": splits,
        **counted,
    }
    drift = changes(before, stats) if before else []
    told = {
        "compared_to": compared_to if before else "",
        "drift": [change._asdict() for change in drift],
    }
    write_text(
        FileSystems.join(folder, schema.STATS),
        json.dumps({**stats, **told}, indent=2) + "\n",
    )
    page = stats_page.document(
        "What the logs look like",
        stats,
        drift,
        compared_to=compared_to if before else "",
    )
    write_text(FileSystems.join(folder, schema.STATS_PAGE), page)
    return drift
