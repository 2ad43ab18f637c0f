"""How the training went: every number of `metrics.jsonl` over the epochs."""

import json
from pathlib import Path

from tfrs_mmse import plots, schema
from tfrs_mmse.page import Node, Section, element, paragraph
from tfrs_mmse.plots import Series

_FUSION = "fusion/"
_EPOCH = "epoch"

Curves = dict[str, list[tuple[float, float]]]
"""By the name of the number: (epoch, value) of each epoch that has it."""


def section(model_dir: Path) -> Section:
    """A plot for each number, one for all fusion weights."""
    curves = read_curves(model_dir / schema.METRICS)
    weights = {n: c for n, c in curves.items() if n.startswith(_FUSION)}
    figures = [_plot(n, {n: c}) for n, c in curves.items() if n not in weights]
    if weights:
        short = {n.removeprefix(_FUSION): c for n, c in weights.items()}
        figures.append(_plot("fusion weights", short))
    body: list[Node] = (
        [element("div", *figures, class_="plots")]
        if figures
        else [paragraph(f"There is no {schema.METRICS} beside the model.")]
    )
    return Section("training", "Training", body)


def read_curves(path: Path) -> Curves:
    """Reads the log of a training; a line that is not whole is left out, as are numbers that are 0 in all epochs."""
    curves: Curves = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a training that is running writes it at this moment
        for name, value in entry.items():
            if name != _EPOCH and isinstance(value, int | float):
                curves.setdefault(name, []).append((entry[_EPOCH], value))
    return {n: curve for n, curve in curves.items() if any(v for _, v in curve)}


def _plot(title: str, curves: Curves) -> Node:
    styles = [*plots.MANY, *[plots.OTHER] * len(curves)]
    series = [
        Series(name, style, [e for e, _ in curve], [v for _, v in curve])
        for (name, curve), style in zip(curves.items(), styles, strict=False)
    ]
    epochs = [epoch for epoch, _ in next(iter(curves.values()))]
    step = -(-len(epochs) // 8)
    return plots.lines(
        title.replace("_", " "),
        series,
        x_label=_EPOCH,
        y_label="",
        ticks={e: f"{e:g}" for e in epochs[::step]},
        from_zero=len(curves) > 1,
    )
