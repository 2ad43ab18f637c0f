"""What is preprocessed: the files of both sources, and what their columns mean."""

from collections.abc import Sequence
from typing import NamedTuple

from beam.accounting import EVENTS, ITEMS, ORDERS
from beam.config import PreprocessConfig
from beam.event_layout import NO_EVENTS, EventLayout, event_layout, order_layout
from beam.items import ItemLayout, item_layout
from beam.reading import plain_size
from beam.sources import match_files, read_head
from tfrs_mmse.cli import CommandError


class Logs(NamedTuple):
    """The input of a run.

    Attributes:
        event_files: Files of the event log and their sizes in bytes; none for a catalogue without events.
        events: How the log tells of events.
        order_files: Files of orders from another system, and their sizes; often none.
        orders: How they tell of orders.
        item_files: Files of the catalogue and their sizes.
        items: What the catalogue's columns are used for.
    """

    event_files: dict[str, int]
    events: EventLayout
    order_files: dict[str, int]
    orders: EventLayout
    item_files: dict[str, int]
    items: ItemLayout

    @property
    def num_bytes(self) -> int:
        """About how large it all is, unpacked."""
        return plain_size(self.event_files | self.order_files | self.item_files)


def look_at(
    events: Sequence[str],
    orders: Sequence[str],
    items: Sequence[str],
    config: PreprocessConfig,
) -> Logs:
    """Finds the files and learns the columns of each source from its first rows.

    Args:
        events: Patterns of the event log's files; none for a catalogue without events.
        orders: Patterns of files of orders from another system, if there is one.
        items: Patterns of the catalogue's files.
        config: The configuration.

    Raises:
        CommandError: there are none, what must be there is not, or a file is named twice.
    """
    if orders and not events:
        raise CommandError(
            "--orders needs --events: an order belongs to the request whose click led to it"
        )
    item_files = match_files(items, source=ITEMS)
    event_files = match_files(events, source=EVENTS) if events else {}
    order_files = match_files(orders, source=ORDERS) if orders else {}
    if both := sorted(event_files.keys() & order_files.keys()):
        raise CommandError(
            f"{both[0]} is among --events and among --orders: it would count twice"
        )
    path, rows = read_head(list(item_files), source=ITEMS)
    layout = item_layout(rows, config, path=path)
    events_layout = orders_layout = NO_EVENTS
    if event_files:
        path, rows = read_head(list(event_files), source=EVENTS)
        events_layout = event_layout(rows, config, path=path)
    if order_files:
        path, rows = read_head(list(order_files), source=ORDERS)
        orders_layout = order_layout(rows, config, path=path)
    return Logs(
        event_files, events_layout, order_files, orders_layout, item_files, layout
    )
