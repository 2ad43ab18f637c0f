"""How a log writes moments."""

import datetime
import zoneinfo
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from beam.accounting import Rejected, RejectedRow
from beam.batches import Column
from beam.values import Results, each

_MAX_SECONDS = (
    1e11  # the year 5138; a larger number is in another unit, which we do not guess at
)
_NUMBERS = (pa.int64(), pa.float64())
_UTC = ("UTC", "GMT", "Z")  # at the end of a format: the moment names its zone
_UNITS = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}


class Clock(NamedTuple):
    """How a log writes moments.

    Attributes:
        unit: Of numbers since 1970: `s`, `ms`, `us` or `ns`.
        zone: The time zone of moments that do not name theirs.
        format: Of strings and whole numbers, as `strptime` takes it; `""` for ISO 8601 and for numbers since 1970.
    """

    unit: str = "s"
    zone: str = "UTC"
    format: str = ""

    def seconds(self, value: Any) -> float:
        """Seconds since 1970 from a number, a numeric string, a string of the format, or a datetime.

        Raises:
            RejectedRow: it is missing, or none of these, or before 1970.
        """
        match value:
            case None | "":
                raise RejectedRow(Rejected.MISSING_FIELD)
            case bool():
                raise RejectedRow(Rejected.BAD_TIMESTAMP)
            case int() if self.format:  # 20231114 may be a date
                return self._of_string(str(value))
            case int() | float():
                try:
                    return _plausible(value / _UNITS[self.unit])
                except OverflowError:
                    raise RejectedRow(Rejected.BAD_TIMESTAMP) from None
            case str():
                return self._of_string(value)
            case datetime.datetime():
                return self._of_moment(value)
            case datetime.date():
                midnight = datetime.time()
                return self._of_moment(datetime.datetime.combine(value, midnight))
        raise RejectedRow(Rejected.BAD_TIMESTAMP)

    def each(self, values: Column) -> Results:
        """`seconds` of each value, None where it has none."""
        is_numbers = isinstance(values, pa.Array) and values.type in _NUMBERS
        if self.format or not is_numbers:
            return each(self.seconds, values)
        seconds = pl.Series("seconds", values).cast(pl.Float64) / _UNITS[self.unit]
        return seconds.to_frame().select(
            pl.when((pl.col("seconds") >= 0) & (pl.col("seconds") < _MAX_SECONDS)).then(
                "seconds"
            )
        )[:, 0]

    def _of_string(self, value: str) -> float:
        try:
            if self.format:
                return self._of_moment(
                    datetime.datetime.strptime(value.strip(), self.format)
                )
            try:
                return _plausible(float(value) / _UNITS[self.unit])
            except ValueError:
                return self._of_moment(datetime.datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            raise RejectedRow(Rejected.BAD_TIMESTAMP) from None

    def _of_moment(self, moment: datetime.datetime) -> float:
        if moment.tzinfo is None:
            zone = "UTC" if self.format.endswith(_UTC) else self.zone
            moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        try:
            return _plausible(moment.timestamp())
        except (ValueError, OverflowError):  # year 1 or 9999, with an offset
            raise RejectedRow(Rejected.BAD_TIMESTAMP) from None


def _plausible(seconds: float) -> float:
    if not 0 <= seconds < _MAX_SECONDS:
        raise RejectedRow(Rejected.BAD_TIMESTAMP)
    return float(seconds)
