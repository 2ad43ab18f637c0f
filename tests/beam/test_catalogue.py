"""Items once each, and events only of items that there are."""

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from beam.accounting import read_counters
from beam.catalogue import MatchCatalogue
from beam.events import Event
from beam.items import Item


def test_the_first_row_of_an_item_stays_and_events_of_unknown_items_go() -> None:
    rows = [
        ((1, 1), Item("a", ("second file",), ())),
        ((0, 9), Item("a", ("line 9",), ())),
        ((0, 10), Item("a", ("line 10",), ())),
        ((1, 2), Item("b", ("alone",), ())),
    ]
    events = [
        Event(2, "r", 1.0, "q", item_id, -1, "")
        for item_id in ("a", "x", "a", "x", "x")
    ]
    pipeline = test_pipeline.TestPipeline(runner=FnApiRunner())
    given_items = pipeline | "Items" >> beam.Create(rows, reshuffle=False)
    given_events = pipeline | "Events" >> beam.Create(events, reshuffle=False)
    items, known = (given_items, given_events) | MatchCatalogue()
    assert_that(items, equal_to([rows[1][1], rows[3][1]]), label="items")
    assert_that(known, equal_to([events[0], events[2]]), label="events")
    counters = read_counters(pipeline.run(), ["events", "items"])
    assert counters == {
        "events": {"dropped_unknown_item": 3},
        "items": {"dropped_duplicate_item": 2},
    }
