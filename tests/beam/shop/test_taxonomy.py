import re

import numpy as np
import pytest

from beam.shop import vocabulary
from beam.shop.catalogue import make_catalogue
from beam.shop.taxonomy import product_types


def test_a_row_of_the_table_becomes_a_product_type() -> None:
    sofa = next(t for t in product_types() if t.noun == "sofa")

    assert (sofa.department, sofa.category, sofa.price) == ("home", "furniture", 650.0)
    assert sofa.synonyms == ("couch", "settee")
    assert dict(zip(vocabulary.WRITTEN_SLOTS, sofa.values, strict=True)) == {
        "color": (
            "white",
            "grey",
            "beige",
            "black",
            "green",
            "navy",
            "turquoise",
            "yellow",
        ),
        "material": ("leather", "faux leather", "velvet", "linen", "polyester"),
        "audience": (),
        "feature": ("corner", "foldable", "reclining"),
        "use": ("living room", "small spaces"),
    }


def test_nouns_differ_and_every_type_has_colors_known_materials_features_and_uses() -> (
    None
):
    types = product_types()
    assert len({t.noun for t in types}) == len(types)
    for t in types:
        colors, materials, _, features, uses = t.values
        assert colors and materials and features and uses, t.noun
        assert set(materials) <= vocabulary.MATERIALS.keys(), t.noun


def test_words_are_lower_case_letters_and_digits_without_plural() -> None:
    assert vocabulary.words("Pro T-Shirts, 5 bus lamps") == [
        "pro",
        "t",
        "shirt",
        "5",
        "bus",
        "lamp",
    ]


@pytest.mark.parametrize("kind", ["nouns", "values"])
def test_titles_never_use_the_synonyms_that_queries_use(kind: str) -> None:
    titles = " | ".join(make_catalogue(np.random.default_rng(0), 4000).title).lower()
    synonyms = {
        "nouns": [s for t in product_types() for s in t.synonyms],
        "values": [s for group in vocabulary.VALUE_SYNONYMS.values() for s in group],
    }[kind]

    assert [s for s in synonyms if re.search(rf"\b{re.escape(s)}\b", titles)] == []


def test_every_value_with_synonyms_is_a_value_of_some_type() -> None:
    values = {value for t in product_types() for names in t.values for value in names}
    assert vocabulary.VALUE_SYNONYMS.keys() <= values
