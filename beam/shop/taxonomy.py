"""The kinds of things that the shop sells, their attributes, and what people call them."""

import functools
from typing import NamedTuple


class ProductType(NamedTuple):
    """A kind of item.

    Attributes:
        department: Such as `home`.
        category: Such as `furniture`; types of one category are weak substitutes for each other.
        noun: What titles call it.
        synonyms: What queries also call it and titles never do.
        price: Median price.
        values: For each of `vocabulary.WRITTEN_SLOTS` the values that items of the type have; none where the slot
            does not apply.
    """

    department: str
    category: str
    noun: str
    synonyms: tuple[str, ...]
    price: float
    values: tuple[tuple[str, ...], ...]


_COLORS = {
    "cloth": "black white grey navy red burgundy beige green turquoise pink purple yellow",
    "tech": "black white grey navy red",
    "home": "white grey beige black green navy turquoise yellow",
    "toy": "red yellow green turquoise pink purple",
}

# Two lines each:
# department | category | noun | synonyms | price | colours
#   | materials | audiences | features | uses
_TABLE = """
fashion | tops | t-shirt | tee | 18 | cloth \
    | cotton, organic cotton, polyester, linen | men, women, kids | slim, oversized, printed | sports, summer
fashion | tops | shirt | button down, blouse | 35 | cloth \
    | cotton, linen, silk, polyester | men, women | slim, striped, checked | office, wedding
fashion | tops | sweater | jumper, pullover | 45 | cloth \
    | wool, cashmere, cotton, polyester | men, women, kids | knitted, striped, oversized | winter, office
fashion | tops | hoodie | hooded top | 40 | cloth \
    | cotton, organic cotton, polyester | men, women, kids | zipped, printed, oversized | sports, winter
fashion | bottoms | jeans | dungarees | 55 | cloth \
    | denim, cotton | men, women, kids | slim, ripped, stretch | office, summer
fashion | bottoms | trousers | slacks, chinos | 48 | cloth \
    | cotton, linen, wool, polyester | men, women, kids | slim, cropped, stretch | office, hiking, wedding
fashion | bottoms | shorts | bermudas | 25 | cloth \
    | cotton, linen, polyester, denim | men, women, kids | stretch, printed, long | running, summer, hiking
fashion | bottoms | skirt | kilt | 32 | cloth \
    | cotton, silk, polyester, denim | women, kids | long, short, printed | summer, office
fashion | outerwear | jacket | anorak, windbreaker | 85 | cloth \
    | cotton, nylon, leather, faux leather | men, women, kids | waterproof, quilted, zipped | running, hiking
fashion | outerwear | coat | overcoat | 130 | cloth \
    | wool, cashmere, polyester, down | men, women, kids | long, quilted, waterproof | winter, office
fashion | outerwear | dress | gown, frock | 60 | cloth \
    | cotton, silk, linen, polyester | women, kids | long, short, printed | summer, wedding, office
shoes | sports shoes | sneakers | trainers, kicks | 70 | cloth \
    | canvas, leather, faux leather | men, women, kids | breathable, lightweight, waterproof | running, gym, office
shoes | sports shoes | football boots | cleats, soccer shoes | 80 | cloth \
    | leather, faux leather, nylon | men, women, kids | lightweight, laceless | turf, beginners
shoes | casual shoes | boots | booties | 110 | cloth \
    | leather, suede, rubber, faux leather | men, women, kids | waterproof, insulated, zipped | hiking, winter, office
shoes | casual shoes | sandals | flip flops | 35 | cloth \
    | leather, rubber, suede, faux leather | men, women, kids | lightweight, waterproof | summer, beach, hiking
shoes | casual shoes | slippers | house shoes | 25 | cloth \
    | wool, suede, cotton, rubber | men, women, kids | insulated, lightweight | winter, travel
bags | bags | backpack | rucksack, knapsack | 60 | cloth \
    | nylon, canvas, leather, polyester | men, women, kids | waterproof, foldable, lightweight | hiking, office, travel
bags | bags | handbag | purse, clutch | 75 | cloth \
    | leather, faux leather, canvas, suede | women | zipped, quilted, printed | office, wedding, travel
bags | bags | suitcase | trolley, luggage | 120 | cloth \
    | plastic, aluminium, nylon, carbon | men, women, kids | lightweight, foldable, waterproof | travel, office
bags | small accessories | wallet | billfold, card holder | 35 | cloth \
    | leather, faux leather, nylon, carbon | men, women | zipped, slim | travel, office
bags | small accessories | sunglasses | shades | 50 | cloth \
    | plastic, titanium, steel | men, women, kids | polarized, foldable, lightweight | beach, running, hiking
bags | small accessories | watch | timepiece | 140 | cloth \
    | steel, titanium, leather, plastic | men, women, kids | waterproof, slim, digital | running, office, diving
bags | small accessories | scarf | shawl, muffler | 28 | cloth \
    | wool, cashmere, silk, cotton | men, women, kids | knitted, printed, long | winter, office
electronics | audio | headphones | headset, cans | 90 | tech \
    | plastic, leather, aluminium | | wireless, noise cancelling, rechargeable | gaming, running, office, travel
electronics | audio | earbuds | in-ears, earphones | 60 | tech \
    | plastic, silicone, aluminium | | wireless, noise cancelling, waterproof | running, travel, gym
electronics | audio | speaker | boombox, soundbox | 80 | tech \
    | plastic, wood, aluminium | | wireless, waterproof, rechargeable | beach, office, gaming
electronics | computing | keyboard | keypad | 65 | tech \
    | plastic, aluminium, wood | | wireless, mechanical, backlit, foldable | gaming, office, travel
electronics | computing | mouse | pointing device | 35 | tech \
    | plastic, aluminium, rubber | | wireless, ergonomic, backlit, rechargeable | gaming, office, travel
electronics | computing | monitor | display, screen | 220 | tech \
    | plastic, aluminium | | curved, ultrawide, portable | gaming, office, design
electronics | computing | laptop | notebook | 750 | tech \
    | plastic, aluminium, carbon | | lightweight, touchscreen, backlit | gaming, office, design, travel
electronics | phones | phone case | phone cover, mobile shell | 18 | cloth \
    | silicone, leather, plastic, faux leather, bamboo | | slim, waterproof, printed | travel, hiking
electronics | phones | charger | power adapter | 25 | tech \
    | plastic, aluminium | | wireless, portable, foldable | travel, office
electronics | phones | power bank | battery pack | 35 | tech \
    | plastic, aluminium, rubber | | wireless, slim, waterproof | travel, hiking
electronics | photo | camera | camcorder | 480 | tech \
    | plastic, aluminium, titanium | | waterproof, compact, mirrorless | travel, beginners, diving
electronics | photo | tripod | stand | 60 | tech \
    | aluminium, carbon, plastic | | foldable, compact, lightweight | travel, beginners
home | furniture | sofa | couch, settee | 650 | home \
    | leather, faux leather, velvet, linen, polyester | | corner, foldable, reclining | living room, small spaces
home | furniture | armchair | easy chair | 280 | home \
    | leather, velvet, linen, rattan, polyester | | reclining, swivel, high back | living room, office
home | furniture | desk | bureau | 220 | home \
    | oak, pine, mdf, bamboo, glass | | standing, foldable, corner | gaming, office, small spaces
home | furniture | bookshelf | bookcase | 130 | home \
    | oak, pine, mdf, bamboo, steel | | corner, floating, narrow | living room, office, small spaces
home | furniture | dining table | kitchen table | 380 | home \
    | oak, pine, mdf, glass | | round, extendable, foldable | living room, garden, small spaces
home | furniture | wardrobe | closet, armoire | 340 | home \
    | oak, pine, mdf, bamboo | | sliding, narrow, corner | bedroom, small spaces
home | bedding | duvet cover | quilt cover, bed linen | 45 | home \
    | cotton, organic cotton, linen, silk, polyester | | striped, printed, quilted | winter, summer
home | bedding | pillow | cushion | 28 | home \
    | memory foam, down, cotton, bamboo, polyester | | cooling, ergonomic, washable | travel, side sleepers
home | bedding | blanket | throw, afghan | 38 | home \
    | wool, cotton, cashmere, polyester | kids, women, men | weighted, knitted, heated | winter, travel
home | lighting | table lamp | bedside light | 45 | home \
    | ceramic, glass, steel, wood, rattan | | dimmable, rechargeable, narrow | bedroom, office, living room
home | lighting | floor lamp | standing light | 95 | home \
    | steel, wood, bamboo, aluminium, rattan | | dimmable, arched, narrow | living room, office
home | decor | rug | carpet | 120 | home \
    | wool, cotton, silk, polyester, bamboo | | round, washable, striped | living room, bedroom, garden
home | decor | curtains | drapes | 45 | home \
    | linen, cotton, velvet, polyester | | blackout, insulated, striped | bedroom, living room
home | decor | mirror | looking glass | 75 | home \
    | oak, steel, bamboo, plastic, rattan | | round, backlit, foldable | bedroom, bathroom
kitchen | cookware | frying pan | skillet | 42 | home \
    | cast iron, stainless steel, aluminium, ceramic | | nonstick, deep, induction | camping, beginners
kitchen | cookware | saucepan | cooking pot | 45 | home \
    | stainless steel, aluminium, ceramic, cast iron | | nonstick, induction, deep | camping, beginners
kitchen | cookware | chopping board | cutting block | 24 | home \
    | oak, bamboo, plastic, glass | | foldable, nonslip, engraved | camping, beginners
kitchen | appliances | blender | liquidizer, smoothie maker | 70 | home \
    | glass, plastic, stainless steel | | portable, rechargeable, silent | office, beginners, baby food
kitchen | appliances | kettle | water boiler | 45 | home \
    | stainless steel, glass, plastic, ceramic | | electric, foldable, silent | camping, office, travel
kitchen | appliances | coffee maker | espresso machine, brewer | 140 | home \
    | stainless steel, plastic, glass, aluminium | | automatic, compact, portable | office, camping, small spaces
kitchen | tableware | mug | cup, beaker | 14 | home \
    | ceramic, porcelain, glass, stainless steel | | insulated, printed, stackable | office, camping, travel
kitchen | tableware | water bottle | flask, canteen | 24 | cloth \
    | stainless steel, glass, aluminium, titanium | kids, men, women | insulated, foldable, leakproof | hiking, gym
kitchen | tableware | lunch box | bento, food container | 22 | cloth \
    | stainless steel, bamboo, plastic, glass | kids, men, women | insulated, leakproof, stackable | office, travel
sports | fitness | yoga mat | exercise pad | 32 | cloth \
    | rubber, polyester, cotton | | foldable, nonslip, thick | travel, gym, beginners
sports | fitness | dumbbells | free weights | 65 | tech \
    | cast iron, rubber, steel, plastic | men, women | adjustable, nonslip, compact | gym, beginners
sports | outdoor | tent | shelter | 160 | cloth \
    | nylon, polyester, cotton | | waterproof, lightweight, insulated | hiking, camping, beach
sports | outdoor | sleeping bag | bedroll | 85 | cloth \
    | down, polyester, nylon, cotton | men, women, kids | waterproof, lightweight, compact | winter, summer, hiking
sports | outdoor | headlamp | head torch | 32 | tech \
    | plastic, aluminium, silicone | | waterproof, rechargeable, dimmable | running, camping, hiking
sports | cycling | bike helmet | cycling hat | 60 | cloth \
    | plastic, carbon | men, women, kids | lightweight, foldable, backlit | racing, office, beginners
sports | cycling | bike lock | cable padlock | 38 | tech \
    | steel, titanium, plastic | | foldable, compact, lightweight | travel, office
toys | learning | building blocks | bricks, construction set | 35 | toy \
    | plastic, wood, bamboo | kids | magnetic, stackable, washable | travel, beginners, garden
toys | learning | puzzle | jigsaw, brain teaser | 18 | toy \
    | wood, plastic, bamboo | kids, men, women | magnetic, glowing, foldable | travel, beginners
toys | soft toys | plush toy | stuffed animal, teddy | 22 | toy \
    | cotton, organic cotton, polyester, wool | kids | washable, glowing, weighted | travel, bedroom
toys | soft toys | doll | figurine, dolly | 28 | toy \
    | plastic, cotton, wood, porcelain | kids | washable, talking, magnetic | travel, bath
beauty | hair | hair dryer | blow drier | 55 | tech \
    | plastic, ceramic, titanium | men, women | foldable, silent, compact | travel, curly hair
beauty | hair | hair brush | comb, detangler | 15 | cloth \
    | wood, bamboo, plastic, silicone | men, women, kids | foldable, ergonomic, heated | curly hair, long hair
beauty | shaving | razor | shaver | 42 | tech \
    | stainless steel, plastic, titanium, wood | men, women | electric, waterproof | travel, sensitive skin
garden | tools | drill | power screwdriver | 95 | tech \
    | plastic, aluminium, steel | | wireless, rechargeable, compact | beginners, concrete
garden | tools | work gloves | hand protection | 15 | cloth \
    | leather, cotton, nylon, rubber | men, women, kids | waterproof, insulated, nonslip | winter, roses
garden | plants | plant pot | planter, vase | 24 | home \
    | ceramic, plastic, wood, bamboo, rattan | | hanging, round, narrow | balcony, living room, bathroom
garden | plants | watering can | sprinkler | 22 | home \
    | steel, plastic, aluminium | kids, men, women | lightweight, narrow, foldable | balcony, roses
pets | dogs | dog bed | pet basket, puppy mattress | 48 | home \
    | memory foam, cotton, polyester, rattan | | washable, waterproof, heated | travel, winter
pets | dogs | dog leash | pet lead | 20 | cloth \
    | leather, nylon, rubber, cotton | | extendable, glowing, nonslip | running, travel, hiking
pets | cats | cat tree | scratching post, climbing tower | 75 | home \
    | wood, bamboo, polyester, rattan | | foldable, narrow, floating | small spaces, living room
"""


@functools.cache
def product_types() -> tuple[ProductType, ...]:
    """The shop's product types, in the table's order."""
    return tuple(_parse(row) for row in _TABLE.strip().split("\n"))


def _parse(row: str) -> ProductType:
    department, category, noun, synonyms, price, colors, *rest = (
        cell.strip() for cell in row.split("|")
    )
    values = (tuple(_COLORS[colors].split()), *(_list(cell) for cell in rest))
    return ProductType(
        department, category, noun, _list(synonyms), float(price), values
    )


def _list(cell: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in cell.split(",") if value.strip())
