"""What was trained on what: the data's counts and the config of the run."""

import json
from pathlib import Path
from typing import Any

from tfrs_mmse.evaluation import Evaluation
from tfrs_mmse.page import Node, Section, element, foreign, table

_COUNTS = ("requests", "queries", "ordered", "clicked", "unclicked")


def section(evaluation: Evaluation, data: Path) -> Section:
    """Data and config as tables."""
    manifest = evaluation.trained.manifest
    splits: list[list[Node]] = [
        [split, *(f"{counts.get(name, 0):,}" for name in _COUNTS)]
        for split, counts in manifest.splits.items()
    ]
    grains: list[list[Node]] = [
        [foreign(g.name), str(g.kind), f"{g.size:,}"] for g in manifest.features.grains
    ]
    return Section(
        "setting",
        "Data and config",
        [
            element("h3", "Data"),
            element(
                "p",
                foreign(str(data)),
                f", {manifest.num_items:,} items; model ",
                foreign(str(evaluation.model_dir)),
            ),
            table(["split", *_COUNTS], splits, class_="figures") if splits else None,
            table(["grain", "kind", "ids"], grains, class_="figures"),
            element("h3", "Training config"),
            _settings(evaluation.trained.config.to_dict()),
            element("h3", "Preprocessing config"),
            _settings(manifest.config),
            element("p", f"Vocabulary {manifest.vocabulary_hash[:12]}", class_="note"),
        ],
    )


def _settings(values: dict[str, Any]) -> Node:
    rows: list[list[Node]] = [
        [name, foreign(json.dumps(value, ensure_ascii=False))]
        for name, value in sorted(values.items())
    ]
    return element(
        "details",
        element("summary", f"{len(rows)} settings"),
        table(["", "value"], rows),
    )
