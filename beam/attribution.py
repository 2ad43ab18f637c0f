"""Gives orders that name no request to the request whose click led to them."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam.accounting import Dropped, count_dropped
from beam.events import Event
from tfrs_mmse.schema import Level


def attribute_orders(events: Iterable[Event], *, window_seconds: float) -> list[Event]:
    """Attributes one user's orders of one item to that user's latest click on it, at or before the order.

    Args:
        events: Clicks with a request id, and orders without one, of one user and one item.
        window_seconds: How long before the order the click may be.

    Returns:
        The orders that could be attributed, with the request id of their click.
    """
    events = list(events)
    clicks = [event for event in events if event.request_id]
    attributed = []
    for order in (event for event in events if not event.request_id):
        earliest = order.timestamp - window_seconds
        before = [
            (c.timestamp, c.request_id)
            for c in clicks
            if earliest <= c.timestamp <= order.timestamp
        ]
        if before:
            attributed.append(order._replace(request_id=max(before)[1]))
    return attributed


class AttributeOrders(beam.PTransform):
    """Gives every order a request, or drops it. Counter: `events/dropped_order_unattributed`."""

    def __init__(self, window_seconds: float) -> None:
        super().__init__()
        self._window_seconds = window_seconds

    def expand(self, events: beam.PCollection[Event]) -> beam.PCollection[Event]:
        routed = events | "Route" >> beam.ParDo(_RouteFn()).with_outputs(
            "of_user", main="of_request"
        )
        attributed = (
            routed.of_user
            | "KeyByUser"
            >> beam.Map(_key).with_output_types(tuple[tuple[str, str], Event])
            | "GroupByUserAndItem" >> beam.GroupByKey()
            | "Attribute" >> beam.ParDo(_AttributeFn(self._window_seconds))
        )
        return (routed.of_request, attributed) | "Together" >> beam.Flatten()


def _key(event: Event) -> tuple[tuple[str, str], Event]:
    return (event.user_id, event.item_id), event


class _RouteFn(beam.DoFn):
    """What has a request goes on; orders without one go to `of_user`, with the clicks that they may belong to."""

    def process(self, event: Event) -> Iterator[Any]:
        if event.request_id:
            yield event
            if event.level == Level.CLICKED and event.user_id:
                yield beam.pvalue.TaggedOutput("of_user", event)
        elif event.user_id:
            yield beam.pvalue.TaggedOutput("of_user", event)
        else:
            count_dropped(Dropped.ORDER_UNATTRIBUTED, 1)


class _AttributeFn(beam.DoFn):
    def __init__(self, window_seconds: float) -> None:
        super().__init__()
        self._window_seconds = window_seconds

    def process(
        self, element: tuple[tuple[str, str], Iterable[Event]]
    ) -> Iterator[Event]:
        events = list(element[1])
        attributed = attribute_orders(events, window_seconds=self._window_seconds)
        num_orders = sum(not event.request_id for event in events)
        count_dropped(Dropped.ORDER_UNATTRIBUTED, num_orders - len(attributed))
        yield from attributed
