"""What people want (intents) and what they type for it (queries): from head to tail, with synonyms and misspellings."""

import dataclasses

import numpy as np

from beam.shop import vocabulary
from beam.shop.catalogue import PERIOD, START, Catalogue

# Probability of 0, 1, 2, 3 constraints of an intent.
_NUM_CONSTRAINTS = (
    0.12,
    0.33,
    0.35,
    0.2,
)
# Of color, material, audience, feature, use, brand.
_SLOT_WEIGHTS = np.array((3, 2, 3, 3, 2, 2))
_PRICE_WISH = (0.12, 0.78, 0.1)  # probability of: cheap, none, fine
_LATE = (
    0.1  # share of the intents on old items that also come up only during the period
)
_ZIPF = 0.9  # exponent of the intents' frequency by rank
_FORM_ZIPF = 1.2  # exponent of the frequency of an intent's strings
_TYPO = 0.25  # misspelled strings per correct one; they are an intent's rarest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intents:
    """What people want, as columns of equal length I, the most frequent first.

    Attributes:
        type: [I] int32 product type.
        wanted: [I, S] int32 the value wanted in each slot, -1 where it does not matter.
        price_wish: [I] int64: -1 cheap, 1 fine, 0 does not matter.
        birth: [I] int64 seconds; nobody wants it before.
        weight: [I] float64 relative frequency.
    """

    type: np.ndarray
    wanted: np.ndarray
    price_wish: np.ndarray
    birth: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.type)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queries:
    """The strings, those of an intent one after the other, as columns of equal length Q. All strings are different.

    Attributes:
        text: What is typed.
        intent: [Q] int64, ascending.
        first: [I + 1] int64, the strings of intent i are first[i] to first[i + 1] - 1, the most frequent first.
        misspelled: The misspelled words of all strings and what they stand for, in order of appearance.
    """

    text: tuple[str, ...]
    intent: np.ndarray
    first: np.ndarray
    misspelled: dict[str, str]


def make_intents(
    rng: np.random.Generator, catalogue: Catalogue, num_intents: int
) -> Intents:
    """Invents up to `num_intents` different intents; each is one that some item of the catalogue satisfies.

    Broad intents (few constraints) tend to be the frequent ones. Intents on a new item come up with the item.
    """
    found: dict[tuple[int, ...], int] = {}  # intent -> the item it was modelled on
    for _ in range(4 * num_intents):
        item = int(rng.integers(len(catalogue)))
        weights = _SLOT_WEIGHTS * (catalogue.slots[item] >= 0)
        num = min(
            int(rng.choice(len(_NUM_CONSTRAINTS), p=_NUM_CONSTRAINTS)),
            int(np.count_nonzero(weights)),
        )
        chosen = rng.choice(len(weights), num, replace=False, p=weights / weights.sum())
        wanted = np.full(len(weights), -1)
        wanted[chosen] = catalogue.slots[item, chosen]
        wish = int(rng.choice((-1, 0, 1), p=_PRICE_WISH))
        found.setdefault((int(catalogue.type[item]), wish, *wanted.tolist()), item)
        if len(found) == num_intents:
            break

    keys = np.array(list(found), np.int64)
    models = np.array(list(found.values()))
    num_wishes = np.count_nonzero(keys[:, 2:] >= 0, axis=1) + np.abs(keys[:, 1])
    order = np.argsort(
        num_wishes + 1.5 * rng.exponential(size=len(keys)), kind="stable"
    )
    keys, models = keys[order], models[order]

    launch = catalogue.launch[models]
    late = np.where(
        rng.random(len(keys)) < _LATE, rng.integers(0, PERIOD, len(keys)) + START, START
    )
    birth = np.where((launch > START) & (num_wishes[order] >= 2), launch, late)
    birth[0] = START  # there is always something to want
    return Intents(
        type=keys[:, 0].astype(np.int32),
        wanted=keys[:, 2:].astype(np.int32),
        price_wish=keys[:, 1],
        birth=birth,
        weight=(np.arange(len(keys)) + 3.0) ** -_ZIPF,
    )


def make_queries(
    rng: np.random.Generator, catalogue: Catalogue, intents: Intents
) -> Queries:
    """Puts each intent into words, frequent intents in more ways than rare ones.

    A string belongs to one intent only: to the one that took it first. An intent left without any string gets one
    with a number in it, as people type model numbers.
    """
    text: list[str] = []
    intent: list[int] = []
    taken: set[str] = set()
    misspelled: dict[str, str] = {}
    for index in range(len(intents)):
        num_forms = 2 + int(6 / np.sqrt(1 + index / 20))
        strings = [
            _phrase(rng, catalogue, intents, index, synonym=0.25 if form == 0 else 0.5)
            for form in range(num_forms)
        ]
        strings += [
            _with_typo(rng, string, misspelled)
            for string in strings
            if rng.random() < _TYPO
        ]
        new = [string for string in dict.fromkeys(strings) if string not in taken] or [
            f"{strings[0]} {index}"
        ]
        taken.update(new)
        text += new
        intent += [index] * len(new)
    first = np.searchsorted(intent, np.arange(len(intents) + 1))
    return Queries(
        text=tuple(text),
        intent=np.array(intent, np.int64),
        first=first,
        misspelled=misspelled,
    )


def draw_query(
    rng: np.random.Generator, queries: Queries, intent: np.ndarray
) -> np.ndarray:
    """Draws for each intent ([B] int64) one of its strings ([B] int64), by Zipf's law."""
    num_forms = np.diff(queries.first)
    cumulative = np.cumsum((np.arange(num_forms.max()) + 1.0) ** -_FORM_ZIPF)
    draw = rng.random(len(intent)) * cumulative[num_forms[intent] - 1]
    return queries.first[intent] + np.searchsorted(cumulative, draw, side="right")


def misspell(rng: np.random.Generator, word: str) -> str:
    """The word with one slip of the fingers after its first letter: a letter left out, doubled, or two swapped."""
    at = int(rng.integers(1, len(word) - 1))
    match rng.integers(3):
        case 0:
            return word[:at] + word[at + 1 :]
        case 1:
            return word[:at] + word[at] + word[at:]
        case _:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _with_typo(
    rng: np.random.Generator, string: str, misspelled: dict[str, str]
) -> str:
    parts = string.split(" ")
    long = [i for i, word in enumerate(parts) if len(word) >= 5]
    if not long:
        return string
    at = long[rng.integers(len(long))]
    wrong = misspell(rng, parts[at])
    if wrong != parts[at]:
        misspelled.setdefault(wrong, parts[at])
    return " ".join([*parts[:at], wrong, *parts[at + 1 :]])


def _phrase(
    rng: np.random.Generator,
    catalogue: Catalogue,
    intents: Intents,
    index: int,
    *,
    synonym: float,
) -> str:
    """The intent in words; each of them is replaced by a synonym, where it has one, with probability `synonym`."""

    def put(word: str, others: tuple[str, ...]) -> str:
        return (
            others[rng.integers(len(others))]
            if others and rng.random() < synonym
            else word
        )

    wanted = intents.wanted[index]
    values = [
        catalogue.values[slot][wanted[slot]] if wanted[slot] >= 0 else ""
        for slot in range(vocabulary.BRAND)
    ]
    color, material, audience, feature, use = (
        put(v, vocabulary.VALUE_SYNONYMS.get(v, ())) for v in values
    )
    maker = (
        catalogue.brands[wanted[vocabulary.BRAND]]
        if wanted[vocabulary.BRAND] >= 0
        else None
    )
    brand = put(maker.name, (maker.nickname,)) if maker else ""
    product_type = catalogue.types[intents.type[index]]
    noun = put(product_type.noun, product_type.synonyms)
    if synonym > 0 and rng.random() < 0.15 and not noun.endswith("s"):
        noun += "s"
    price_words = {-1: vocabulary.CHEAP_WORDS, 0: ("",), 1: vocabulary.FINE_WORDS}[
        int(intents.price_wish[index])
    ]
    price = price_words[rng.integers(len(price_words))]
    if audience and rng.random() < 0.5:
        audience = f"for {audience}"
    before, after = ("", audience) if audience.startswith("for ") else (audience, "")
    parts = (price, brand, before, color, material, feature, noun, use, after)
    return " ".join(part for part in parts if part)
