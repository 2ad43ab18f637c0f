import numpy as np
import pytest

from beam.shop import vocabulary
from beam.shop.catalogue import PERIOD, START, Catalogue, make_brands, make_catalogue


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(np.random.default_rng(0), 5000)


def test_a_title_says_the_brand_the_noun_and_what_is_marked_as_written(
    catalogue: Catalogue,
) -> None:
    for item in range(200):
        title = catalogue.title[item].lower()
        assert catalogue.value(item, vocabulary.BRAND) in title
        assert catalogue.types[catalogue.type[item]].noun in title
        for slot in np.flatnonzero(catalogue.written[item]):
            assert catalogue.value(item, int(slot)) in title


def test_titles_leave_out_every_fifth_attribute_and_descriptions_none(
    catalogue: Catalogue,
) -> None:
    has = catalogue.slots[:, : vocabulary.BRAND] >= 0
    written = catalogue.written[:, : vocabulary.BRAND]
    assert not (written & ~has).any()
    assert written[has].mean() == pytest.approx(0.8, abs=0.02)
    for item in range(200):
        for slot in np.flatnonzero(has[item]):
            assert (
                catalogue.value(item, int(slot)) in catalogue.description[item].lower()
            )


def test_a_quarter_of_the_items_is_launched_during_the_period(
    catalogue: Catalogue,
) -> None:
    new = catalogue.launch > START
    assert new.sum() == 1250
    assert catalogue.launch.min() == START
    assert catalogue.launch.max() < START + PERIOD


def test_price_is_the_median_of_the_type_times_its_level(catalogue: Catalogue) -> None:
    median = np.array([t.price for t in catalogue.types])[catalogue.type]
    np.testing.assert_allclose(catalogue.price, median * np.exp(catalogue.price_level))
    assert catalogue.price.min() > 0


def test_brand_material_and_product_line_tell_quality_in_part_and_price_goes_with_it(
    catalogue: Catalogue,
) -> None:
    is_pro = np.array([" pro" in title for title in catalogue.title])
    is_basic = np.array(["basic" in title for title in catalogue.title])
    assert catalogue.quality[is_pro].mean() - catalogue.quality[
        is_basic
    ].mean() == pytest.approx(1.5, abs=0.2)
    assert 0.4 < np.corrcoef(catalogue.quality, catalogue.price_level)[0, 1] < 0.9


def test_brands_and_nicknames_are_all_different_words() -> None:
    brands = make_brands(np.random.default_rng(0), ["home", "toys"], per_department=100)
    assert len({b.name for b in brands} | {b.nickname for b in brands}) == 400
    assert all(b.name.startswith(b.nickname[:-1]) for b in brands)


@pytest.mark.parametrize("num_items", [1, 2, 5])
def test_even_the_smallest_catalogue_has_something_to_show_from_the_start(
    num_items: int,
) -> None:
    assert make_catalogue(np.random.default_rng(0), num_items).launch.min() == START
