"""Items in the plane, near to each other where the model embeds them near to each other, coloured by category."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_mmse import features, plots, schema, streams
from tfrs_mmse.evaluation import Evaluation
from tfrs_mmse.page import Node, Section, element, foreign, paragraph
from tfrs_mmse.plots import Series
from tfrs_mmse.report import projection

NUM_ITEMS = 2000
NUM_NEIGHBOURS = 10
_CATEGORY = "category"


class Categories(NamedTuple):
    """The attribute that gives the colours.

    Attributes:
        grain: Its name.
        id: [n] its ids of the items; 0 where an item has none, or a rare one.
        names: By id.
    """

    grain: str
    id: np.ndarray
    names: list[str]


def section(evaluation: Evaluation, data: Path) -> Section:
    """The map of a sample of the catalogue."""
    items = evaluation.items
    num_items = len(items.item_id)
    chosen = np.random.default_rng(0).permutation(num_items)[:NUM_ITEMS]
    vectors = items.embedding[chosen]
    spec = evaluation.trained.manifest.features
    categories = read_categories(data, spec, items.item_id[chosen].tolist())
    place = projection.neighbour_map(vectors)
    shown = "all items" if len(chosen) == num_items else f"{len(chosen)} random items"
    body: list[Node] = [
        plots.cloud(f"Map of {shown}", _coloured(place, categories)),
        _neighbours(vectors, categories),
        element(
            "p",
            "t-SNE of the items' embeddings: neighbours on the map are neighbours for the model; the size of groups "
            "and the distance between them mean nothing.",
            class_="note",
        ),
    ]
    return Section("map", "Map of items", body)


def read_categories(
    data: Path, spec: schema.FeatureSpec, item_ids: list[bytes]
) -> Categories | None:
    """Reads the ids of `category`, or else of the first categorical attribute; None if there is none at all.

    Args:
        data: Directory of examples.
        spec: Its feature spec.
        item_ids: The n items asked for.
    """
    grains = {g.name: g for g in spec.grains if g.kind is schema.GrainKind.CATEGORICAL}
    if not grains:
        return None
    grain = grains.get(_CATEGORY) or next(iter(grains.values()))
    feature = schema.item_feature(grain.name)
    ids = dict.fromkeys(item_ids, 0)
    wanted = {
        schema.ITEM_ID: tf.io.FixedLenFeature([], tf.string),
        feature: tf.io.FixedLenFeature([], tf.int64),
    }
    for batch in streams.read_columns(data, schema.ITEMS, wanted):
        for item_id, value in zip(batch[schema.ITEM_ID], batch[feature], strict=True):
            if item_id in ids:
                ids[item_id] = int(value)
    vocabulary = features.read_vocabularies(data, [grain])[grain.name]
    return Categories(
        grain.name,
        np.array([ids[item_id] for item_id in item_ids]),
        ["none, or a rare one", *vocabulary],
    )


def _coloured(place: np.ndarray, categories: Categories | None) -> list[Series]:
    """One series for each of the most frequent categories, one for all others, which is drawn first."""
    if categories is None:
        return [Series("items", plots.MANY[0], place[:, 0], place[:, 1])]
    counts = np.bincount(categories.id)
    counts[0] = 0
    frequent = np.argsort(-counts, kind="stable")[: len(plots.MANY)]
    frequent = frequent[counts[frequent] > 0]
    series = []
    rest = ~np.isin(categories.id, frequent)
    if rest.any():
        series.append(Series("all others", plots.OTHER, *place[rest].T))
    for style, id_ in zip(plots.MANY, frequent.tolist(), strict=False):
        points = place[categories.id == id_]
        series.append(Series(categories.names[id_], style, *points.T))
    return series


def _neighbours(vectors: np.ndarray, categories: Categories | None) -> Node:
    """How pure the neighbourhoods are, which the map can only suggest."""
    if categories is None:
        return paragraph("The catalogue has no categorical attribute to colour by.")
    known = categories.id > 0
    ids = categories.id[known]
    if len(ids) <= NUM_NEIGHBOURS:
        return None
    share = same_neighbours(vectors[known], ids, NUM_NEIGHBOURS)
    chance = float(np.mean(np.bincount(ids)[ids] - 1) / (len(ids) - 1))
    return paragraph(
        "Coloured by ",
        foreign(categories.grain),
        f". Of an item's {NUM_NEIGHBOURS} nearest among these, by the model's similarity, {share:.0%} are of its own; "
        f"by chance it were {chance:.0%}.",
    )


def same_neighbours(vectors: np.ndarray, ids: np.ndarray, k: int) -> float:
    """The share of same ids among each vector's k nearest others, by inner product.

    Args:
        vectors: [n, D] float32, n > k.
        ids: [n].
        k: Neighbours.
    """
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return float(np.mean(ids[nearest] == ids[:, None]))
