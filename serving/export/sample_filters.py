"""A few filters of a catalogue's own, for warm-up and for the check of a version, and which items pass them."""

from collections.abc import Mapping

import numpy as np

from serving.index.clauses import OPERATORS
from serving.index.filters import filterable, folded
from tfrs_mmse.corpus import Corpus

_MOST = 6  # filters of single attributes


def sample_filters(attributes: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Filters: wide and narrow ones of single attributes, each of which some items pass, and all wide ones together.

    Args:
        attributes: See `Corpus`.

    Returns:
        Clauses of each filter.
    """
    single: list[list[str]] = []
    for name, values in sorted(attributes.items()):
        if not filterable(name):
            continue
        if values.dtype == np.float32:
            present = values[~np.isnan(values)]
            if len(present):
                middle, high = np.quantile(present, (0.5, 0.99), method="nearest")
                single += [[f"{name}<={middle!s}"], [f"{name}>={high!s}"]]
        else:
            distinct, counts = np.unique(folded(values), return_counts=True)
            order = [n for n in np.argsort(-counts, kind="stable") if distinct[n]]
            if order:
                ends = (distinct[order[0]], distinct[order[-1]])
                single += [[f"{name}={value.decode()}"] for value in ends]
    together = [clause for [clause] in single[: 2 * _MOST : 2]]
    return [[], *single[:_MOST], together] if single else [[]]


def passing(corpus: Corpus, clauses: list[str]) -> np.ndarray:
    """[N] bool: the items that pass one of `sample_filters`, by another computation than that of the graph."""
    attributes = corpus.attributes
    passes = np.ones(len(corpus.item_id), bool)
    for clause in clauses:
        name, value = clause.split("=", 1)
        values = attributes[name.rstrip(OPERATORS)]
        if values.dtype != np.float32:
            passes &= folded(values) == value.encode()
        elif name.endswith("<"):
            passes &= values <= np.float32(value)
        else:
            passes &= values >= np.float32(value)
    return passes
