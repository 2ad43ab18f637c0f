"""What has changed since an earlier run: shares and amounts of `stats.json` that are far from what they were."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from beam.accounting import READ

_SHARE = 0.02  # a share that moved by less is not worth a warning,
_FACTOR = 1.25  # nor anything that moved by less than this factor


class Change(NamedTuple):
    """A figure that moved.

    Attributes:
        name: What it is, for a person.
        before: In the earlier run.
        now: In this one.
        is_share: Whether it lies between 0 and 1.
    """

    name: str
    before: float
    now: float
    is_share: bool

    def __str__(self) -> str:
        return (
            f"{self.name} was {self.shown(self.before)} and is {self.shown(self.now)}"
        )

    def shown(self, figure: float) -> str:
        """A figure of this kind for a person: `12.3%`, `1,631,458` or `2.51`."""
        if self.is_share:
            return f"{figure:.1%}"
        return f"{figure:,.0f}" if figure == round(figure) else f"{figure:,.3g}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The figures of two runs that differ by more than a factor of 1.25, and by 2 points if they are shares.

    Args:
        before: `stats.json` of the earlier run.
        now: That of this one.
    """
    old, new = dict(_figures(before)), dict(_figures(now))
    found = []
    for name in sorted(old.keys() & new.keys()):
        is_share = name[1]
        change = Change(name[0], old[name], new[name], is_share)
        low, high = sorted((change.before, change.now))
        if high > low * _FACTOR and (not is_share or high - low > _SHARE):
            found.append(change)
    return found


def _figures(stats: Mapping[str, Any]) -> Iterator[tuple[tuple[str, bool], float]]:
    """Figures to compare: ((name, whether it is a share), figure)."""
    positions = stats.get("position", {})
    shown = {level: sum(numbers.values()) for level, numbers in positions.items()}
    clicked = shown.get("clicked", 0) + shown.get("ordered", 0)
    if clicked:
        yield ("click rate of shown items", True), clicked / sum(shown.values())
        yield ("order rate of clicked items", True), shown.get("ordered", 0) / clicked
    for of, grains in stats.get("token", {}).items():
        for grain, numbers in grains.items():
            yield from _share(f"unknown {grain} tokens in {of}", numbers, "unknown")
    for column, numbers in stats.get("value", {}).items():
        yield from _share(f"items without {column}", numbers, "missing")
        yield from _share(f"items with a rare {column}", numbers, "rare")
    for field, numbers in stats.get("words", {}).items():
        words = sum(int(length) * number for length, number in numbers.items())
        yield (f"mean words of {field}", False), words / max(sum(numbers.values()), 1)
    for source, counts in stats.get("accounting", {}).items():
        read = counts.get(READ, 0)
        yield (f"{source} read", False), read
        for outcome, number in counts.items():
            if outcome != READ and read:
                yield (f"{source} {outcome}", True), number / read
    for split, numbers in stats.get("splits", {}).items():
        for name, number in numbers.items():
            yield (f"{split} {name}", False), number
    if days := stats.get("day", {}):
        yield ("requests a day", False), sum(days.values()) / len(days)


def _share(
    name: str, numbers: Mapping[str, int], key: str
) -> Iterator[tuple[tuple[str, bool], float]]:
    if total := sum(numbers.values()):
        yield (name, True), numbers.get(key, 0) / total
