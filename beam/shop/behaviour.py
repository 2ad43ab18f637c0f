r"""How users behave: what they look at, click and order. The equations, and the true utilities that follow from them.

A user u with query q looks down the page, item after item. For the item i at position k = 0, 1, ...

    E_k = 1: examined,  C_k = 1: clicked,  O_k = 1: ordered

    P(E_0 = 1)                           = 1
    P(C_k = 1 | E_k)                     = E_k a(q, i, u)
    P(O_k = 1 | C_k)                     = C_k s(q, i, u)
    P(E_k+1 = 1 | E_k = 1, O_k = 0)      = gamma_u
    P(E_k+1 = 1 | E_k = 1, O_k = 1)      = gamma_u kappa

Clicks need examination and attraction, whose product makes the position bias (the examination hypothesis: Richardson,
Dominowska, Ragno, WWW 2007; Craswell, Zoeter, Taylor, Ramsey, WSDM 2008). Looking downwards until satisfied or out of
patience is the dynamic Bayesian network of Chapelle and Zhang (WWW 2009), here with an order as what satisfies, kappa
of whom go on shopping all the same. Orders are a second stage after the click, P(C, O) = P(C) P(O | C) (entire space:
Ma et al., ESMM, SIGIR 2018). Chuklin, Markov, de Rijke, "Click Models for Web Search" (2015) treats the family.
What a and s consist of is ours:

    a = g rho_click^m_seen  sigmoid(a_0 + a_fame fame + a_loud loud + a_look look - (a_price + a_wish w) p)
    s = g rho_order^m_true  sigmoid(s_0 + s_quality quality               - (s_price + s_wish w) p)
    w = thrift_u - price_wish_q

g is 1 for the product type wanted, less within its category, and almost 0 elsewhere. m_seen counts what the query asks
for and the *title* does not say, m_true what the *item* does not have (a brand counts twice): a click follows what the
result says, an order what the item is. p is the log of the price over the type's median. The thrifty, and those who
typed `cheap`, have a positive w and shun high prices; those who typed `luxury` a negative one. Famous brands, loud
words, pictures and low prices earn clicks; quality, which brand, material and product line tell in part, earns orders,
and good things are not the cheapest. So the ranking that is best for clicks is not the one that is best for orders.

The utilities of (q, i) are the means over users of a, "clicked if examined", and of a s, "ordered if examined".
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from beam.shop import vocabulary
from beam.shop.catalogue import Catalogue
from beam.shop.queries import Intents

THRIFT = (1.0, 0.0, -1.0)  # the values that thrift_u takes ...
THRIFT_SHARE = (0.35, 0.45, 0.2)  # ... and the shares of the users who have them
# The patience gamma_u is drawn from the beta distribution with these parameters.
PATIENCE = (
    12.0,
    1.2,
)

_SLOT_COUNTS = np.array(
    [2 if slot == vocabulary.BRAND else 1 for slot in range(len(vocabulary.SLOTS))]
)


class Coefficients(NamedTuple):
    """The constants of the equations, named as there.

    They are fitted to no real shop. We chose them by hand, so that pages look sensible, about half of the requests have
    a click, and the best rankings for clicks and for orders differ clearly: how far they differ is an assumption of
    this simulator, and no finding. Orders (about 15 to 100 requests) are more frequent than in most shops, so that
    small logs have enough of them.
    """

    same_category: float = 0.2  # g
    elsewhere: float = 0.01  # g
    rho_click: float = 0.35
    rho_order: float = 0.2
    a_0: float = -2.2
    a_fame: float = 0.6
    a_loud: float = 0.8
    a_look: float = 0.5
    a_price: float = 0.8
    a_wish: float = 0.5
    s_0: float = -2.6
    s_quality: float = 1.7
    s_price: float = 0.2
    s_wish: float = 0.8
    kappa: float = 0.2


COEFFICIENTS = Coefficients()


@dataclasses.dataclass(frozen=True)
class Utilities:
    """Probabilities, elementwise for pairs of a query's intent and an item.

    Attributes:
        click: P(click | examined), a.
        order_after_click: P(order | clicked), s.
    """

    click: np.ndarray
    order_after_click: np.ndarray


class Market:
    """The pairs' side of the behaviour: what each item is to each intent."""

    def __init__(
        self,
        catalogue: Catalogue,
        intents: Intents,
        coefficients: Coefficients = COEFFICIENTS,
    ) -> None:
        self._catalogue = catalogue
        self._intents = intents
        self._coefficients = coefficients
        names = list(dict.fromkeys(t.category for t in catalogue.types))
        self._category = np.array([names.index(t.category) for t in catalogue.types])

    def category_items(self, intent: int) -> np.ndarray:
        """The items of the category that the intent wants: [M] int64, ascending."""
        return np.flatnonzero(
            self._category[self._catalogue.type]
            == self._category[self._intents.type[intent]]
        )

    def kinship(self, intent: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The factor g: how near the item's product type is to the wanted one."""
        wanted, is_ = self._intents.type[intent], self._catalogue.type[item]
        related = np.where(
            self._category[wanted] == self._category[is_],
            self._coefficients.same_category,
            self._coefficients.elsewhere,
        )
        return np.where(wanted == is_, 1.0, related)

    def missing(
        self, intent: np.ndarray, item: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts m_seen and m_true: what the intent wants and the title does not say, the item does not have."""
        wanted = self._intents.wanted[intent]
        has = self._catalogue.slots[item] == wanted
        asked = wanted >= 0
        seen = has & self._catalogue.written[item]
        return (asked & ~seen) @ _SLOT_COUNTS, (asked & ~has) @ _SLOT_COUNTS

    def utilities(
        self, intent: np.ndarray, item: np.ndarray, thrift: np.ndarray
    ) -> Utilities:
        """The probabilities a and s of pairs.

        Args:
            intent: [...] int64.
            item: [...] int64.
            thrift: [...] float64, thrift_u; broadcasts.

        Returns:
            Two float64 arrays of the same shape.
        """
        c, items = self._coefficients, self._catalogue
        wish = thrift - self._intents.price_wish[intent]
        price = items.price_level[item]
        kinship = self.kinship(intent, item)
        m_seen, m_true = self.missing(intent, item)
        attraction = (
            c.a_0
            + c.a_fame * items.fame[item]
            + c.a_loud * items.loud[item]
            + c.a_look * items.look[item]
        )
        attraction = attraction - (c.a_price + c.a_wish * wish) * price
        worth = (
            c.s_0
            + c.s_quality * items.quality[item]
            - (c.s_price + c.s_wish * wish) * price
        )
        return Utilities(
            click=kinship * c.rho_click**m_seen * _sigmoid(attraction),
            order_after_click=kinship * c.rho_order**m_true * _sigmoid(worth),
        )

    def mean_utilities(
        self, intent: np.ndarray, item: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The utilities of pairs for clicks and for orders: the means over users of a and of a s."""
        click, order = np.zeros(len(intent)), np.zeros(len(intent))
        for thrift, share in zip(THRIFT, THRIFT_SHARE, strict=True):
            u = self.utilities(intent, item, np.array(thrift))
            click += share * u.click
            order += share * u.click * u.order_after_click
        return click, order


def browse(
    rng: np.random.Generator,
    utilities: Utilities,
    patience: np.ndarray,
    *,
    kappa: float = COEFFICIENTS.kappa,
) -> tuple[np.ndarray, np.ndarray]:
    """Lets users look down their pages.

    Args:
        rng: Source of randomness.
        utilities: Of [B, K] positions; a is 0 where a page has no item.
        patience: [B] gamma_u.
        kappa: Probability of going on after an order, beside patience.

    Returns:
        [B, K] bool clicked, [B, K] bool ordered.
    """
    clicked = rng.random(utilities.click.shape) < utilities.click
    ordered = rng.random(utilities.click.shape) < utilities.order_after_click
    goes_on = rng.random(utilities.click.shape) < patience[:, None]
    goes_on_after_order = rng.random(utilities.click.shape) < kappa
    examines = np.ones(len(patience), bool)
    for k in range(utilities.click.shape[1]):
        clicked[:, k] &= examines
        ordered[:, k] &= clicked[:, k]
        examines = (
            examines & goes_on[:, k] & (~ordered[:, k] | goes_on_after_order[:, k])
        )
    return clicked, ordered


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
