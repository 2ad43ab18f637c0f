"""The evaluation for people: `report.html`, one file that holds its own images and style and asks nobody for more.

Queries, titles, categories and folder names come from strangers. They go into the page only as text of an element
(`page.element` escapes it), never into a plot.
"""

from pathlib import Path

from tfrs_mmse import page
from tfrs_mmse.evaluation import Evaluation
from tfrs_mmse.report import (
    cases,
    headline,
    item_map,
    retrieved,
    scored,
    setting,
    training,
)


def write(path: Path, evaluation: Evaluation, data: Path) -> None:
    """Writes the report.

    Args:
        path: The file.
        evaluation: What it tells.
        data: Directory of the examples that were evaluated.
    """
    sections = [
        headline.section(evaluation),
        *retrieved.sections(evaluation),
        *scored.sections(evaluation),
        training.section(evaluation.model_dir),
        *cases.sections(evaluation),
        item_map.section(evaluation, data),
        setting.section(evaluation, data),
    ]
    run, examples = page.short_path(evaluation.model_dir), page.short_path(data)
    preset = evaluation.trained.config.preset
    title = f"{preset} in {run} on {examples}, split {evaluation.split}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.document(title, sections), encoding="utf-8")
