"""The items: what titles say of them, what they cost, and the qualities that nobody logs."""

import dataclasses
from typing import NamedTuple

import numpy as np

from beam.shop import taxonomy, vocabulary

START = 1_704_067_200  # 2024-01-01 00:00 UTC, seconds
PERIOD = 28 * 24 * 3600  # seconds that the log covers

_NEW_ITEM_SHARE = 0.25  # of the items is launched during the period
_UNWRITTEN = 0.2  # probability that a title leaves out an attribute
_LOUD = 0.25  # probability that a title starts with a loud word
_TIERS = ((-0.5, 0.7), (0.0, 1.0), (0.6, 1.5))  # brands: mean quality, price factor
# Syllables and endings of invented brand names.
_SYLLABLES = (
    *(
        "bel",
        "cor",
        "dan",
        "fen",
        "gal",
        "hol",
        "jun",
        "kes",
        "lor",
        "mar",
        "nor",
        "pel",
        "quin",
        "ros",
        "sol",
        "tam",
    ),
    *("vel", "win", "zan", "bry", "dor", "fal", "hel", "kar", "lun", "mon"),
)
_ENDINGS = ("a", "en", "ia", "ick", "o", "ora", "um", "us", "well", "yn")


class Brand(NamedTuple):
    """A maker of one department's items.

    Attributes:
        name: As titles have it.
        nickname: As some queries have it; never in a title.
        department: Where it sells.
        quality: Mean quality of its items.
        price_factor: Its price level over the type's median.
        fame: How well known it is; it draws clicks.
    """

    name: str
    nickname: str
    department: str
    quality: float
    price_factor: float
    fame: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items as columns of equal length N.

    Attributes:
        types: The product types, indexed by `type`.
        brands: The brands.
        values: For each of `vocabulary.SLOTS` its values in the shop, indexed by `slots`.
        item_id: Names.
        title: Titles.
        description: All attributes, written out.
        type: [N] int32.
        slots: [N, S] int32, the item's value in each slot, -1 where it has none.
        written: [N, S] bool, whether the title says it.
        price: [N] float64.
        price_level: [N] ln of the price over the median of the type.
        quality: [N] how good the item is, about -2 to 2.
        fame: [N] how well known its brand is, standard normal over brands.
        loud: [N] float64, 1 where the title has a loud word.
        look: [N] how well its picture looks, standard normal, told by nothing in the catalogue.
        popularity: [N] what the search engine ranks by beside words, about standard normal; low for new items.
        launch: [N] int64 seconds; the item cannot be shown before.
    """

    types: tuple[taxonomy.ProductType, ...]
    brands: tuple[Brand, ...]
    values: tuple[tuple[str, ...], ...]
    item_id: tuple[str, ...]
    title: tuple[str, ...]
    description: tuple[str, ...]
    type: np.ndarray
    slots: np.ndarray
    written: np.ndarray
    price: np.ndarray
    price_level: np.ndarray
    quality: np.ndarray
    fame: np.ndarray
    loud: np.ndarray
    look: np.ndarray
    popularity: np.ndarray
    launch: np.ndarray

    def __len__(self) -> int:
        return len(self.item_id)

    def value(self, item: int, slot: int) -> str:
        """The item's attribute as text, `""` where it has none."""
        index = self.slots[item, slot]
        return self.values[slot][index] if index >= 0 else ""


def make_catalogue(rng: np.random.Generator, num_items: int) -> Catalogue:
    """Invents `num_items` items. A part of them is launched during the period, the others before it starts."""
    types = taxonomy.product_types()
    departments = list(dict.fromkeys(t.department for t in types))
    brands = make_brands(
        rng, departments, per_department=10 + min(num_items // 2500, 100)
    )
    values = _values(types, brands)
    type_ = _zipf_choice(rng, np.arange(len(types)), num_items).astype(np.int32)

    slots = _draw_slots(rng, types, brands, values, type_)
    written = (rng.random(slots.shape) >= _UNWRITTEN) & (slots >= 0)
    written[:, vocabulary.BRAND] = True
    line_names = tuple(vocabulary.PRODUCT_LINES)
    line = rng.integers(len(line_names), size=num_items)
    is_loud = rng.random(num_items) < _LOUD
    loud_word = rng.integers(len(vocabulary.LOUD_WORDS), size=num_items)

    brand_of = slots[:, vocabulary.BRAND]
    material = vocabulary.SLOTS.index("material")
    materials = [vocabulary.MATERIALS[name] for name in values[material]]
    lines = list(vocabulary.PRODUCT_LINES.values())
    quality = (
        np.array([b.quality for b in brands])[brand_of]
        + np.array([m.quality for m in materials])[slots[:, material]]
        + np.array([x.quality for x in lines])[line]
        + rng.normal(0, 0.4, num_items)
    )
    factor = (
        np.array([b.price_factor for b in brands])[brand_of]
        * np.array([m.price_factor for m in materials])[slots[:, material]]
        * np.array([x.price_factor for x in lines])[line]
        * np.exp(rng.normal(0, 0.3, num_items))
    )
    median = np.array([t.price for t in types])[type_]
    price = np.maximum(np.round(median * factor), 1) - 0.01
    price_level = np.log(price / median)
    fame = np.array([b.fame for b in brands])[brand_of]
    look = rng.normal(size=num_items)
    launch = _launches(rng, num_items)
    popularity = (
        0.5 * fame
        + 0.5 * is_loud
        + 0.4 * look
        - 0.4 * price_level
        + 0.6 * rng.normal(size=num_items)
    )
    popularity -= 1.0 * (launch > START)

    catalogue = Catalogue(
        types=types,
        brands=brands,
        values=values,
        item_id=tuple(f"i{i:07d}" for i in range(num_items)),
        title=(),
        description=(),
        type=type_,
        slots=slots,
        written=written,
        price=price,
        price_level=price_level,
        quality=quality,
        fame=fame,
        loud=is_loud.astype(np.float64),
        look=look,
        popularity=popularity,
        launch=launch,
    )
    title = tuple(
        _title(
            catalogue,
            item,
            line=line_names[line[item]],
            loud=vocabulary.LOUD_WORDS[loud_word[item]] if is_loud[item] else "",
        )
        for item in range(num_items)
    )
    description = tuple(_description(catalogue, item) for item in range(num_items))
    return dataclasses.replace(catalogue, title=title, description=description)


def make_brands(
    rng: np.random.Generator, departments: list[str], *, per_department: int
) -> tuple[Brand, ...]:
    """Invents brands; all names and nicknames are different words, and none is a word of the taxonomy."""
    taken = {
        w
        for t in taxonomy.product_types()
        for text in (t.noun, *t.synonyms)
        for w in vocabulary.words(text)
    }
    brands = []
    for department in departments:
        for _ in range(per_department):
            name, nickname = _brand_name(rng, taken)
            taken |= {name, nickname}
            quality, price_factor = _TIERS[rng.integers(len(_TIERS))]
            quality += 0.5 * rng.normal()
            brands.append(
                Brand(name, nickname, department, quality, price_factor, rng.normal())
            )
    return tuple(brands)


def _brand_name(rng: np.random.Generator, taken: set[str]) -> tuple[str, str]:
    """An invented name and its nickname, a short beginning with a `z`, neither of which is taken."""
    while True:
        name = "".join(
            rng.choice(_SYLLABLES, size=rng.integers(1, 3), replace=False)
        ) + str(rng.choice(_ENDINGS))
        for length in range(3, len(name)):
            if name not in taken and (nickname := f"{name[:length]}z") not in taken:
                return name, nickname


def _values(
    types: tuple[taxonomy.ProductType, ...], brands: tuple[Brand, ...]
) -> tuple[tuple[str, ...], ...]:
    written = (
        tuple(dict.fromkeys(name for t in types for name in t.values[slot]))
        for slot in range(len(vocabulary.WRITTEN_SLOTS))
    )
    return (*written, tuple(b.name for b in brands))


def _draw_slots(
    rng: np.random.Generator,
    types: tuple[taxonomy.ProductType, ...],
    brands: tuple[Brand, ...],
    values: tuple[tuple[str, ...], ...],
    type_: np.ndarray,
) -> np.ndarray:
    """Draws for items of the given types ([N]) a value in each slot that the type has, and a brand: [N, S] int32."""
    slots = np.full((len(type_), len(vocabulary.SLOTS)), -1, np.int32)
    for index, product_type in enumerate(types):
        rows = np.flatnonzero(type_ == index)
        sellers = [
            i
            for i, brand in enumerate(brands)
            if brand.department == product_type.department
        ]
        slots[rows, vocabulary.BRAND] = _zipf_choice(rng, np.array(sellers), len(rows))
        for slot, names in enumerate(product_type.values):
            if names:
                choices = np.array([values[slot].index(name) for name in names])
                slots[rows, slot] = rng.choice(choices, len(rows))
    return slots


def _zipf_choice(
    rng: np.random.Generator, choices: np.ndarray, size: int
) -> np.ndarray:
    """Draws with probabilities that fall slowly with a random rank."""
    weights = 1 / np.sqrt(1 + rng.permutation(len(choices)))
    return rng.choice(choices, size, p=weights / weights.sum())


def _launches(rng: np.random.Generator, num_items: int) -> np.ndarray:
    num_new = int(num_items * _NEW_ITEM_SHARE)
    launch = np.full(num_items, START, np.int64)
    launch[rng.permutation(num_items)[:num_new]] += rng.integers(1, PERIOD, num_new)
    return launch


def _title(catalogue: Catalogue, item: int, *, line: str, loud: str) -> str:
    said = [
        catalogue.value(item, slot) if catalogue.written[item, slot] else ""
        for slot in range(len(vocabulary.SLOTS))
    ]
    color, material, audience, feature, use, brand = said
    noun = catalogue.types[catalogue.type[item]].noun
    whom = f"for {audience}" if audience else ""
    # Shops are not of one mind about word order.
    what = f"{noun} {line}" if item % 2 else f"{line} {noun}"
    parts = (
        loud,
        brand.capitalize(),
        color,
        material,
        feature,
        what.strip(),
        whom,
        f"- {use}" if use else "",
    )
    return " ".join(part for part in parts if part)


def _description(catalogue: Catalogue, item: int) -> str:
    color, material, audience, feature, use, brand = (
        catalogue.value(item, slot) for slot in range(len(vocabulary.SLOTS))
    )
    noun = catalogue.types[catalogue.type[item]].noun
    whom = f" for {audience}" if audience else ""
    made = f"Color: {color}. Made of {material}. For {use}."
    return f"{feature.capitalize()} {noun}{whom} by {brand.capitalize()}. {made}"
