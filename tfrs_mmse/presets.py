"""The presets: named configs, each a system of the literature, or MMSE with one part taken away or exchanged."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tfrs_mmse.config import ATTRIBUTES, TrainConfig

Preset = Callable[[], TrainConfig]


def mmse() -> TrainConfig:
    """Our reading of MMSE (arXiv 2303.11009).

    All grains, fused after the similarity; ordered and clicked items as positives of a sampled softmax, against
    in-batch and uniform random items; ordered > clicked > unclicked by a pairwise ranking loss inside each request.
    """
    return TrainConfig()


def two_tower() -> TrainConfig:
    """The plain two-tower model of the TensorFlow Recommenders retrieval tutorial, as a baseline.

    Every click is a positive of equal weight, an order is no more than a click; the only negatives are the other
    items of the batch, without correction for how often they are drawn; features are fused early, into one vector in
    each tower. Deviations, which make it stronger: it reads the same grains, its vectors are of unit length with the
    same temperature, the unclicked items of other requests are negatives too, and an item that stands in several
    requests of a batch is one negative, not several.
    """
    return TrainConfig(
        preset="two_tower",
        fusion="early",
        title_weight=1.0,
        ordered_share=0.0,
        synthetic_queries=0,
        uniform_negatives=0,
        log_q=False,
        mask_positives=False,
        ranking_weight=0.0,
    )


def dpsr() -> TrainConfig:
    """JD's DPSR, "Towards personalized and semantic retrieval" (arXiv 2006.02282), as far as its abstract goes.

    We know a two-tower model that is trained on clicks with in-batch and uniform random negatives mixed, and of its
    loss that it is a pairwise hinge; margin and mixing ratio are our choice. Deviations: one vector a query instead of
    several heads, and no features of the user, which our logs need not have. Towers and batches as in `two_tower`.
    """
    return dataclasses.replace(
        two_tower(), preset="dpsr", retrieval_loss="hinge", uniform_negatives=1024
    )


def mgdspr() -> TrainConfig:
    """Taobao's MGDSPR (arXiv 2106.09297), as far as its abstract and summaries go.

    Multi-granular query units, fused early; softmax cross entropy with a temperature, over random negatives and mixes
    of the positive with the hardest of them (I_mix). Deviations: character, bigram and word units are mean-pooled, not
    encoded by attention; no history of the user; the hardest are sought among in-batch and uniform negatives; the
    mixing shares, the temperature and the numbers of negatives are our choice.
    """
    return dataclasses.replace(
        two_tower(),
        preset="mgdspr",
        retrieval_loss="mixed_softmax",
        uniform_negatives=1024,
    )


def cold_start() -> TrainConfig:
    """`mmse` for a shop's first day: learned from the catalogue alone, whatever log there is.

    Every step makes queries from the words of random items (see `tfrs_mmse.synthetic`) and tells each item from all
    others; there are no levels to rank. Our own: the abstract of MMSE knows no such thing.
    """
    return dataclasses.replace(
        mmse(),
        preset="cold_start",
        use_log=False,
        synthetic_queries=1024,
        uniform_negatives=1024,
        ranking_weight=0.0,
    )


# What takes a part of MMSE away.
_WITHOUT: dict[str, dict[str, Any]] = {
    "post_fusion": {"fusion": "early"},
    "ranking_loss": {"ranking_weight": 0.0},
    "unclicked": {"unclicked": False},
    "ordered_level": {"ordered_level": False},
    "synthetic_queries": {"synthetic_queries": 0},
    # Nor any queries made of them: to be compared with the line before.
    "uniform_negatives": {"uniform_negatives": 0, "synthetic_queries": 0},
    "log_q": {"log_q": False},
    "title_weight": {"title_weight": 1.0},
    "word": {"grains": "-word"},
    "bigram": {"grains": "-bigram"},
    "character": {"grains": "-character"},
    "attributes": {"grains": f"-{ATTRIBUTES}"},
}


# What another loss, or another choice of what it sees, puts in the place of MMSE's.
_WITH: dict[str, dict[str, Any]] = {
    "mixed_softmax": {"retrieval_loss": "mixed_softmax"},
    "hinge": {"retrieval_loss": "hinge"},
    "ranking_hinge": {"ranking_loss": "hinge"},
    "ranking_listwise": {"ranking_loss": "listwise"},
    "unclicked_positions": {"unclicked_position_exponent": 1.0},
}


def changed_mmse(name: str, changes: dict[str, Any]) -> Preset:
    """`mmse` with one part taken away, or exchanged for another of docs/losses.md, and everything else as it is.

    Source: `mmse` (arXiv 2303.11009), of another part see docs/losses.md; that a system is measured without each of its
    parts, and with others, is our comparison.

    Args:
        name: Of the preset.
        changes: Config fields that differ from `mmse`.
    """
    return lambda: dataclasses.replace(mmse(), preset=name, **changes)


WITHOUT, WITH = "mmse_without_", "mmse_with_"  # how the names of these presets begin
PARTS, OTHER_PARTS = tuple(_WITHOUT), tuple(_WITH)
PRESETS: dict[str, Preset] = {
    "mmse": mmse,
    "two_tower": two_tower,
    "dpsr": dpsr,
    "mgdspr": mgdspr,
    "cold_start": cold_start,
    **{
        prefix + part: changed_mmse(prefix + part, changes)
        for prefix, parts in ((WITHOUT, _WITHOUT), (WITH, _WITH))
        for part, changes in parts.items()
    },
}
