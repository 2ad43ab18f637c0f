"""How a log writes moments: each is read as what was written, or rejected."""

import datetime
from typing import Any

import pyarrow as pa
import pytest

from beam.accounting import RejectedRow
from beam.clock import Clock
from beam.config import PreprocessConfig
from tfrs_mmse.cli import CommandError

NOVEMBER = 1699999200.0  # 2023-11-14T22:00:00Z


@pytest.mark.parametrize(
    ("clock", "value", "seconds"),
    [
        (Clock(format="%Y%m%d"), 20231114, 1699920000.0),
        (Clock(format="%Y%m%d%H%M%S"), "20231114220000", NOVEMBER),
        (Clock(format="%Y-%m-%d %H UTC", zone="Asia/Tokyo"), "2023-11-14 22 UTC", NOVEMBER),
        (Clock(format="%Y-%m-%d %H GMT", zone="Asia/Tokyo"), "2023-11-14 22 GMT", NOVEMBER),
        (Clock(zone="Asia/Tokyo"), "2023-11-15T07:00:00", NOVEMBER),
        (Clock(zone="Asia/Tokyo"), "2023-11-14T22:00:00Z", NOVEMBER),
        (Clock(zone="Europe/Berlin"), datetime.date(2023, 11, 15), NOVEMBER + 3600),
    ],
)  # fmt: skip
def test_a_moment_is_read_as_it_is_written(
    clock: Clock, value: Any, seconds: float
) -> None:
    assert clock.seconds(value) == seconds


@pytest.mark.parametrize("value", [datetime.datetime.max, datetime.datetime.min, True])
def test_a_moment_that_no_log_has_is_rejected(value: Any) -> None:
    with pytest.raises(RejectedRow):
        Clock(zone="America/New_York").seconds(value)


def test_whole_numbers_in_columns_follow_the_format_too() -> None:
    days = pa.array([20231114, 20231115, 7])
    assert list(Clock(format="%Y%m%d").each(days)) == [1699920000, 1700006400, None]


def test_a_name_of_a_zone_is_no_part_of_a_format() -> None:
    for name in ("timestamp_format", "order_timestamp_format", "item_timestamp_format"):
        with pytest.raises(CommandError, match=f"{name} must not hold %Z"):
            PreprocessConfig(**{name: "%Y-%m-%d %H:%M:%S %Z"})


@pytest.mark.parametrize("zone", ["Europe/Berlln", "CEST", "Europe", "../UTC", ""])
def test_a_zone_that_is_none_is_one_sentence(zone: str) -> None:
    with pytest.raises(CommandError, match="must be a name of the time zone database"):
        PreprocessConfig(time_zone=zone)
