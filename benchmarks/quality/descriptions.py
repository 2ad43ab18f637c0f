"""Descriptions of cells, `Cell.description()`: written beside what was made of them, and compared with today's."""

from typing import Any

from tfrs_mmse import cli
from tfrs_mmse.config import TrainConfig

# Config fields that are gone, at the values with which they changed nothing.
_GONE = {
    "adaptive_temperature": False,
    "hardest_negatives": 0,
    "hardest_weight": 1.0,
    "hardest_warmup": 0.0,
}


def with_todays_fields(description: dict[str, Any]) -> dict[str, Any]:
    """A description of today's form: a config field that came after it was written had its default then."""
    if "config" not in description:
        return description
    config = description["config"]
    left = {k: v for k, v in config.items() if k not in _GONE or v != _GONE[k]}
    try:
        config = TrainConfig.from_dict(left).to_dict()
    except cli.CommandError:  # a field is gone, so it is another config in any case
        return description
    return {**description, "config": config}


def differences(former: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two dictionaries, key by key."""
    return [
        f"{name} {former.get(name)!r} -> {now.get(name)!r}"
        for name in sorted({*former, *now})
        if former.get(name) != now.get(name)
    ]
