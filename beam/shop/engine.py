"""The shop's present search engine: lexical, popular, imperfect. It decides which items anybody gets to see.

It adds up the idf of the query's words that an item's title has, as a share of the query's total, and the item's
popularity, with noise per request (results are personal, tested, out of stock). It knows some synonyms and corrects
some misspellings, and a classifier guesses the product type, mostly rightly; where words find too little, the page is
filled with what is popular of that type. A few slots explore: new items, items without the words. Without them the log
would hold nothing that a better engine could learn from.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from beam.shop import taxonomy, vocabulary
from beam.shop.catalogue import Catalogue
from beam.shop.queries import Intents, Queries

PAGE = 24  # items on a full page

# Items kept of a query, of which the noise of each request chooses a page.
_POOL = 4 * PAGE
_WORDS_WEIGHT = 5.0
_POPULARITY_WEIGHT = 0.3
_NOISE = 0.35  # scale of the Gumbel noise
_EXPLORING = 3  # slots of a page that may explore
_EXPLORES = 0.5  # probability that such a slot does
_EXPLORES_TYPE = (
    0.8  # probability that it then shows the guessed type; otherwise anything
)
_KNOWN = 0.4  # share of synonyms and misspellings that the engine knows
# Probability of guessing: the right type, one of its category, anything.
_GUESS = (
    0.75,
    0.15,
    0.1,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pools:
    """The best items of each query, before the noise of a request.

    Attributes:
        item: [Q, M] int32, -1 where there are fewer.
        score: [Q, M] float32, descending; -inf where there is no item.
    """

    item: np.ndarray
    score: np.ndarray


class LexicalIndex:
    """Inverted lists of the title's words."""

    def __init__(self, titles: Sequence[str], rewrites: dict[str, str]) -> None:
        """Builds the lists.

        Args:
            titles: Of the items, in their order.
            rewrites: What the engine puts for a word of a query: known synonyms, corrected misspellings.
        """
        lists: dict[str, list[int]] = {}
        for item, title in enumerate(titles):
            for word in dict.fromkeys(vocabulary.words(title)):
                lists.setdefault(word, []).append(item)
        self._lists = {word: np.array(items, np.int32) for word, items in lists.items()}
        self._idf = {
            word: float(np.log1p(len(titles) / len(items)))
            for word, items in lists.items()
        }
        self._rewrites = rewrites
        self._num_items = len(titles)

    def match(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """The items that have a word of the query, and the share of the query's idf that they have.

        Words that no title has count for nothing: the engine does not know how much they would have mattered.

        Returns:
            [H] int64 items, ascending, and [H] float64 shares in (0, 1].
        """
        asked = (self._rewrites.get(word, word) for word in query.split())
        found = [
            w
            for w in dict.fromkeys(vocabulary.words(" ".join(asked)))
            if w in self._lists
        ]
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        items = np.concatenate([self._lists[word] for word in found])
        idf = np.repeat(
            [self._idf[word] for word in found],
            [len(self._lists[word]) for word in found],
        )
        total = np.bincount(items, idf, minlength=self._num_items)
        hits = np.flatnonzero(total)
        return hits, total[hits] / sum(self._idf[word] for word in found)


def known_rewrites(
    rng: np.random.Generator, misspelled: dict[str, str]
) -> dict[str, str]:
    """The rewrites the engine has: a part of the one-word synonyms and of the misspellings."""
    nouns = {
        synonym: t.noun for t in taxonomy.product_types() for synonym in t.synonyms
    }
    values = {
        synonym: value
        for value, synonyms in vocabulary.VALUE_SYNONYMS.items()
        for synonym in synonyms
    }
    pairs = [
        (word, right)
        for word, right in {**nouns, **values, **misspelled}.items()
        if " " not in word
    ]
    known = rng.random(len(pairs)) < _KNOWN
    return dict(pair for pair, is_known in zip(pairs, known, strict=True) if is_known)


def guess_types(
    rng: np.random.Generator, catalogue: Catalogue, intents: Intents, queries: Queries
) -> np.ndarray:
    """What the engine's classifier takes each query to be about: [Q] int64 product types."""
    right = intents.type[queries.intent].astype(np.int64)
    categories = [t.category for t in catalogue.types]
    siblings = [
        np.flatnonzero([c == category for c in categories]) for category in categories
    ]
    sibling = np.array([rng.choice(siblings[t]) for t in right])
    anything = rng.integers(len(catalogue.types), size=len(right))
    return np.choose(
        rng.choice(len(_GUESS), len(right), p=_GUESS), (right, sibling, anything)
    )


def make_pools(
    index: LexicalIndex, catalogue: Catalogue, queries: Sequence[str], guess: np.ndarray
) -> Pools:
    """The best items of each query by words and popularity, then the popular ones of the guessed type, then of all.

    Args:
        index: Of the catalogue's titles.
        catalogue: The items.
        queries: [Q] strings.
        guess: [Q] product types.
    """
    by_popularity = np.argsort(-catalogue.popularity, kind="stable")
    popular = [
        by_popularity[catalogue.type[by_popularity] == t][:_POOL]
        for t in range(len(catalogue.types))
    ]
    everywhere = by_popularity[:_POOL]
    item = np.full((len(queries), _POOL), -1, np.int32)
    score = np.full((len(queries), _POOL), -np.inf, np.float32)
    base = _POPULARITY_WEIGHT * catalogue.popularity
    for row, query in enumerate(queries):
        hits, share = index.match(query)
        scores = _WORDS_WEIGHT * share + base[hits]
        best = _top(scores, _POOL)
        pool, worth = hits[best], scores[best]
        for offset, filler in ((-5.0, popular[guess[row]]), (-10.0, everywhere)):
            if len(pool) < _POOL:
                more = filler[~np.isin(filler, pool)][: _POOL - len(pool)]
                pool = np.concatenate([pool, more])
                worth = np.concatenate([worth, base[more] + offset])
        item[row, : len(pool)] = pool
        score[row, : len(pool)] = worth
    return Pools(item=item, score=score)


class Explorer:
    """Draws items to try out, of a product type or of all, among those launched by then."""

    def __init__(self, catalogue: Catalogue) -> None:
        num_items, self._num_types = len(catalogue), len(catalogue.types)
        everything = np.full(num_items, self._num_types)  # "all items" is one more type
        group = np.concatenate([catalogue.type.astype(np.int64), everything])
        launch = np.tile(catalogue.launch, 2)
        order = np.lexsort((launch, group))
        self._item = np.tile(np.arange(num_items), 2)[order]
        self._epoch = int(launch.min())
        self._span = int(launch.max()) - self._epoch + 2
        self._key = group[order] * self._span + (launch[order] - self._epoch)

    def draw(
        self, rng: np.random.Generator, type_: np.ndarray, time: np.ndarray
    ) -> np.ndarray:
        """Draws an item of each product type launched by each time, or of all types with some probability.

        Args:
            rng: Source of randomness.
            type_: [B] product types.
            time: [B] seconds.

        Returns:
            [B] int64 items, -1 where the type has none yet.
        """
        group = np.where(
            rng.random(len(type_)) < _EXPLORES_TYPE, type_, self._num_types
        )
        start = np.searchsorted(self._key, group * self._span)
        elapsed = np.clip(time - self._epoch, 0, self._span - 1)
        stop = np.searchsorted(self._key, group * self._span + elapsed, side="right")
        at = start + (rng.random(len(type_)) * (stop - start)).astype(np.int64)
        return np.where(
            stop > start, self._item[np.minimum(at, len(self._item) - 1)], -1
        )


def draw_pages(
    rng: np.random.Generator,
    catalogue: Catalogue,
    pools: Pools,
    explorer: Explorer,
    *,
    query: np.ndarray,
    guess: np.ndarray,
    time: np.ndarray,
) -> np.ndarray:
    """The pages that the engine shows.

    Args:
        rng: Source of randomness.
        catalogue: The items.
        pools: Of all queries.
        explorer: Of the catalogue.
        query: [B] int64 query of each request.
        guess: [B] its guessed product type.
        time: [B] int64 seconds; only items launched by then are shown.

    Returns:
        [B, PAGE] int32 items by position, -1 below the end of a page that is not full. No item comes twice.
    """
    item, score = pools.item[query], pools.score[query]
    launched = (catalogue.launch[item] <= time[:, None]) & (item >= 0)
    noisy = np.where(
        launched, score + rng.gumbel(0, _NOISE, score.shape).astype(np.float32), -np.inf
    )
    order = np.argsort(-noisy, axis=1, kind="stable")[:, :PAGE]
    page = np.where(
        np.take_along_axis(launched, order, 1), np.take_along_axis(item, order, 1), -1
    )
    for _ in range(_EXPLORING):
        new = explorer.draw(rng, guess, time)
        filled = np.count_nonzero(page >= 0, axis=1)
        at = (rng.random(len(page)) * filled).astype(np.int64)
        explores = (
            (rng.random(len(page)) < _EXPLORES)
            & (new >= 0)
            & (filled > 0)
            & ~(page == new[:, None]).any(axis=1)
        )
        page[explores, at[explores]] = new[explores]
    return page


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k highest scores (all of them if there are fewer), best first."""
    best = (
        np.argpartition(-scores, k - 1)[:k]
        if k < len(scores)
        else np.arange(len(scores))
    )
    return best[np.argsort(-scores[best], kind="stable")]
