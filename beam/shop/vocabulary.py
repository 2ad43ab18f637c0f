"""The words of the shop besides the product types: attributes, what they are worth, and how people put them."""

import re
from typing import NamedTuple

# What a query may ask for, in this order.
SLOTS = (
    "color",
    "material",
    "audience",
    "feature",
    "use",
    "brand",
)
BRAND = SLOTS.index("brand")
WRITTEN_SLOTS = SLOTS[:BRAND]  # a title may leave these out; it always names the brand


class Line(NamedTuple):
    """A material or a product line: how much better and how much dearer than usual an item of it is."""

    quality: float
    price_factor: float


MATERIALS = {
    "cotton": Line(0.1, 1.0),
    "organic cotton": Line(0.5, 1.25),
    "polyester": Line(-0.5, 0.7),
    "nylon": Line(-0.1, 0.85),
    "wool": Line(0.5, 1.4),
    "cashmere": Line(0.9, 2.2),
    "linen": Line(0.3, 1.2),
    "silk": Line(0.6, 1.8),
    "denim": Line(0.1, 1.0),
    "canvas": Line(0.0, 0.85),
    "leather": Line(0.7, 1.6),
    "faux leather": Line(-0.5, 0.75),
    "suede": Line(0.2, 1.3),
    "velvet": Line(0.2, 1.2),
    "rubber": Line(-0.2, 0.8),
    "memory foam": Line(0.5, 1.3),
    "down": Line(0.7, 1.7),
    "oak": Line(0.8, 1.6),
    "pine": Line(0.0, 0.9),
    "mdf": Line(-0.7, 0.65),
    "bamboo": Line(0.3, 0.95),
    "rattan": Line(0.0, 1.0),
    "steel": Line(0.1, 1.0),
    "stainless steel": Line(0.5, 1.3),
    "cast iron": Line(0.6, 1.5),
    "aluminium": Line(0.2, 1.1),
    "titanium": Line(0.9, 2.0),
    "carbon": Line(0.8, 2.0),
    "plastic": Line(-0.6, 0.65),
    "silicone": Line(0.0, 0.8),
    "glass": Line(0.1, 1.0),
    "ceramic": Line(0.3, 1.1),
    "porcelain": Line(0.5, 1.4),
    "wood": Line(0.2, 1.1),
}
PRODUCT_LINES = {
    "": Line(0.0, 1.0),
    "basic": Line(-0.7, 0.7),
    "essential": Line(-0.3, 0.85),
    "classic": Line(0.1, 1.0),
    "plus": Line(0.3, 1.15),
    "signature": Line(0.4, 1.35),
    "pro": Line(0.8, 1.5),
}
# Words that draw the eye and say nothing of the item: they earn clicks, not orders.
LOUD_WORDS = (
    "bestseller",
    "hot deal",
    "must have",
    "trending",
    "limited edition",
    "super sale",
)
# How queries also put an attribute value; titles never use these phrases.
VALUE_SYNONYMS = {
    "grey": ("gray", "charcoal"),
    "navy": ("marine",),
    "burgundy": ("maroon",),
    "beige": ("sand",),
    "turquoise": ("teal",),
    "purple": ("violet",),
    "men": ("gents", "guys"),
    "women": ("ladies",),
    "kids": ("children", "youngsters"),
    "faux leather": ("pleather", "leatherette"),
    "aluminium": ("alloy",),
    "wood": ("timber",),
    "wireless": ("bluetooth", "cordless"),
    "noise cancelling": ("anc",),
    "waterproof": ("watertight", "rainproof"),
    "foldable": ("collapsible",),
    "rechargeable": ("usb",),
    "insulated": ("thermal",),
    "gaming": ("gamer",),
    "running": ("jogging",),
    "office": ("business",),
    "travel": ("trips", "holiday"),
    "hiking": ("trekking",),
    "winter": ("cold weather",),
    "summer": ("hot weather",),
    "small spaces": ("tiny flat",),
    "beginners": ("starter",),
}
CHEAP_WORDS = ("cheap", "affordable", "low price", "inexpensive")
FINE_WORDS = ("luxury", "premium", "high end", "top quality")


def words(text: str) -> list[str]:
    """The lower-case words of a text, as the shop's search engine sees them: letters and digits, no final `s`."""
    return [
        w[:-1] if len(w) > 3 and w.endswith("s") else w
        for w in re.findall(r"[a-z0-9]+", text.lower())
    ]
