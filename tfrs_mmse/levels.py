"""Which levels the training data has, what each weighs, and what it means for a run that some are absent."""

import math
from collections.abc import Mapping

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.presets import PRESETS
from tfrs_mmse.schema import Level

# Fields that mean nothing without items of a level.
_NEEDS = {
    "ordered_level": Level.ORDERED,
    "ordered_share": Level.ORDERED,
    "unclicked": Level.UNCLICKED,
    "unclicked_position_exponent": Level.UNCLICKED,
}


# Where orders are rare a batch has few: heavier ones would have its gradient to themselves. Also the heaviest tried.
MAX_ORDERED_WEIGHT = 10.0


def name_of(level: Level) -> str:
    """As people and manifests write it: `ordered`."""
    return level.name.lower()


def check_wishes(config: TrainConfig, counts: Mapping[str, int]) -> None:
    """Refuses a config that asks for a level which the data does not have.

    The preset's own values are no such wish: presets work with the levels that are there. What was set beside it is.

    Args:
        config: The resolved config.
        counts: Training items by level name, as in the manifest.

    Raises:
        CommandError: a field that differs from the preset's needs a level that is absent.
    """
    preset = PRESETS.get(config.preset, TrainConfig)()
    for field, level in _NEEDS.items():
        value = getattr(config, field)
        # Set to False or 0, it asks for nothing.
        if value and value != getattr(preset, field) and not counts.get(name_of(level)):
            raise CommandError(
                f"config field {field} is set to {value!r}, but the training data has no {name_of(level)} items: "
                f"leave it as the preset has it, or give data with {name_of(level)} items"
            )


def ordered_weight(config: TrainConfig, counts: Mapping[str, int]) -> float:
    """How many clicked items an ordered one weighs.

    The w with which ordered items have the share s of all positives' weight, w n_ordered = s (w n_ordered + n_clicked),
    but never below 1 nor above `MAX_ORDERED_WEIGHT`: a shop with one order to thirty clicks, and one whose log calls
    every second item ordered, need no setting of their own. Weighing classes against their frequency is common
    practice; where the bounds lie is our choice.

    Args:
        config: The resolved config.
        counts: Training items by level name.
    """
    ordered, clicked = (
        counts.get(name_of(level), 0) for level in (Level.ORDERED, Level.CLICKED)
    )
    if not (config.ordered_level and ordered and clicked):
        return 1.0
    share = config.ordered_share
    odds = share / (1 - share) if share < 1 else math.inf
    return min(max(odds * clicked / ordered, 1.0), MAX_ORDERED_WEIGHT)


def absent_level_notes(config: TrainConfig, counts: Mapping[str, int]) -> list[str]:
    """What a person should know before training on data without some level: a sentence for each that is absent.

    Args:
        config: The resolved config; a level that it does not use is not missed.
        counts: Training items by level name.
    """
    has = {
        level: counts.get(name_of(level), 0) > 0
        for level in (Level.UNCLICKED, Level.CLICKED, Level.ORDERED)
    }
    compares = config.ranking_weight > 0 and _has_two(config, has)
    notes = []
    if config.ordered_level and not has[Level.ORDERED]:
        notes.append("no ordered items: clicked items are the deepest level")
    if config.ordered_level and not has[Level.CLICKED]:
        notes.append("no clicked items: ordered items are the only positives")
    if config.unclicked and not has[Level.UNCLICKED]:
        notes.append(
            "no unclicked items: in-batch negatives are what other queries clicked or ordered"
            + (", the ranking loss compares these two levels" if compares else "")
        )
    if notes and config.ranking_weight > 0 and not compares:
        notes[-1] += ", and the ranking loss has nothing to compare"
    return [f"the training data has {note}" for note in notes]


def _has_two(config: TrainConfig, has: Mapping[Level, bool]) -> bool:
    """Whether items of two levels, as the config reads them, are there for the ranking loss."""
    levels = {
        level if config.ordered_level else min(level, Level.CLICKED)
        for level, there in has.items()
        if there and (config.unclicked or level is not Level.UNCLICKED)
    }
    return len(levels) >= 2
