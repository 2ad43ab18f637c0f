"""The export config."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a model is exported.

    Attributes:
        index: `scann`, which chooses exact search where it is the faster one, or `exact`.
        k: Results per query.
        min_recall: Recall@k of the index against exact search below which the export fails.
        target_recall: Recall@k that the chosen settings of ScaNN reach on the tuning queries.
    """

    index: str = "scann"
    k: int = 100
    min_recall: float = 0.9
    target_recall: float = 0.95
