"""Transforms that bring tables together, bucket by bucket."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import polars as pl
from apache_beam.typehints import no_annotations

from beam import depot as depots
from beam.accounting import PARTS, RECEIVED, SENT, count
from beam.tables import Part, Schema, unpack


class BucketFn(beam.DoFn):
    """Works on one bucket: a subclass says which tables it takes, and reads them by `tables`."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        super().__init__()
        self._schemas = schemas
        self._depot: str | None = None

    def read_from(self, depot: str | None) -> None:
        """Says where the parts are: in this depot, or, if there is none, in the elements themselves."""
        self._depot = depot

    def tables(
        self, element: tuple[int, Mapping[str, Iterable[bytes]]]
    ) -> tuple[int, dict[str, pl.DataFrame]]:
        """The number of the bucket, and its tables by name."""
        number, by_name = element
        tables = {}
        for name, schema in self._schemas.items():
            parts = [
                part
                for source, parts in by_name.items()
                if source.partition(".")[0] == name
                for part in parts
            ]
            count(PARTS, RECEIVED, len(parts))
            if self._depot is not None:
                parts = depots.fetch(self._depot, parts)
            tables[name] = unpack(parts, schema)
        return number, tables


class PerBucket(beam.PTransform):
    """Calls a `BucketFn` with every bucket, all parts of its tables together; also with buckets that have none."""

    def __init__(
        self,
        fn: BucketFn,
        *side_inputs: Any,
        num_buckets: int,
        depot: str | None,
        outputs: Sequence[str],
    ) -> None:
        """Args:
        fn: What to do.
        *side_inputs: Further arguments of its `process`.
        num_buckets: Buckets have the numbers below this.
        depot: A folder for the parts, so that only notes of them travel (`beam/depot.py`); None: they travel.
        outputs: The tags of what it yields.
        """
        super().__init__()
        self._fn, self._side_inputs = fn, side_inputs
        self._num_buckets, self._outputs = num_buckets, outputs
        self._depot = depot
        fn.read_from(depot)

    @no_annotations
    def expand(self, tables: Mapping[str, beam.PCollection[Part]]) -> Any:
        """Args:
        tables: The parts of each table by its name; where they come from several steps, by NAME.STEP.
        """
        pipeline = next(iter(tables.values())).pipeline
        every = pipeline | "EveryBucket" >> beam.Create(
            [(number, b"") for number in range(self._num_buckets)], reshuffle=False
        ).with_output_types(Part)
        return (
            {**self._sent(tables), "": every}
            | "Together" >> beam.CoGroupByKey()
            | beam.ParDo(self._fn, *self._side_inputs).with_outputs(*self._outputs)
        )

    def _sent(
        self, tables: Mapping[str, beam.PCollection[Part]]
    ) -> Mapping[str, beam.PCollection[Part]]:
        if self._depot is None:
            return tables
        return {
            name: parts
            | f"Deposit_{name}"
            >> beam.ParDo(depots.DepositFn(self._depot)).with_output_types(Part)
            for name, parts in tables.items()
        }


def tagged(tag: str, elements: Iterable[Any]) -> Iterator[Any]:
    """Elements of one of several outputs."""
    for element in elements:
        yield beam.pvalue.TaggedOutput(tag, element)


def sent(tag: str, parts: Iterable[Part]) -> Iterator[Any]:
    """Parts of tables on their way to a bucket, counted: what is sent and does not arrive is noticed."""
    for part in parts:
        count(PARTS, SENT)
        yield beam.pvalue.TaggedOutput(tag, part)
