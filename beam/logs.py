"""What is preprocessed: the files of both sources, and what their columns mean."""

from collections.abc import Sequence
from typing import NamedTuple

from beam.accounting import EVENTS, ITEMS
from beam.config import PreprocessConfig
from beam.events import NO_EVENTS, EventLayout, event_layout
from beam.items import ItemLayout, item_layout
from beam.reading import plain_size
from beam.sources import match_files, read_head


class Logs(NamedTuple):
    """The input of a run.

    Attributes:
        event_files: Files of the event log and their sizes in bytes; none for a catalogue without events.
        events: How the log tells of events.
        item_files: Files of the catalogue and their sizes.
        items: What the catalogue's columns are used for.
    """

    event_files: dict[str, int]
    events: EventLayout
    item_files: dict[str, int]
    items: ItemLayout

    @property
    def num_bytes(self) -> int:
        """About how large it all is, unpacked."""
        return plain_size(self.event_files) + plain_size(self.item_files)


def look_at(
    events: Sequence[str], items: Sequence[str], config: PreprocessConfig
) -> Logs:
    """Finds the files and learns the columns of both sources from their first rows.

    Args:
        events: Patterns of the event log's files; none for a catalogue without events.
        items: Patterns of the catalogue's files.
        config: The configuration.

    Raises:
        CommandError: there are none, or what must be there is not.
    """
    item_files = match_files(items, source=ITEMS)
    event_files = match_files(events, source=EVENTS) if events else {}
    path, rows = read_head(list(item_files), source=ITEMS)
    layout = item_layout(rows, config, path=path)
    events_layout = NO_EVENTS
    if event_files:
        path, rows = read_head(list(event_files), source=EVENTS)
        events_layout = event_layout(rows, config, path=path)
    return Logs(event_files, events_layout, item_files, layout)
