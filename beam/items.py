"""The catalogue's columns, and the rule that parses one of its rows."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from beam.accounting import Rejected, RejectedRow
from beam.config import PreprocessConfig
from beam.parsing import id_value, text_value
from beam.sources import Fields
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.schema import GrainKind

_ROLES = {
    **dict.fromkeys(
        ("brand", "category", "product_type", "color", "colour"), "categorical"
    ),
    **dict.fromkeys(
        (
            "tags",
            "keywords",
            "description",
            "subtitle",
            "bullet_points",
            "bullet_point",
        ),
        "text",
    ),
    **dict.fromkeys(("features", "material"), "text"),
    "price": "number",
}
# A grain's feature is `item/GRAIN`, so these names are taken by the features of every record.
_TAKEN = {
    f.removeprefix("item/")
    for f in (schema.LEVEL, schema.POSITION, schema.LOG_PROBABILITY, schema.TITLE)
}
_TAKEN |= {schema.TEXT.removeprefix("item/"), *schema.TEXT_GRAINS}
_MAX_FLOAT32 = 3.4e38


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemLayout:
    """Which columns of the catalogue are used, and for what; all names but those in `columns` are ours.

    Attributes:
        columns: Our name -> the catalogue's column.
        text_fields: `title`, the categorical columns, the text columns; each kind in the catalogue's order.
        attributes: Categorical and number columns with their kind, in the catalogue's order.
        unused: The catalogue's columns that nobody gave a role.
    """

    columns: dict[str, str]
    text_fields: tuple[str, ...]
    attributes: tuple[tuple[str, GrainKind], ...]
    unused: tuple[str, ...]

    def feature_spec(self, config: PreprocessConfig) -> schema.FeatureSpec:
        """The feature spec, with sizes of 0: the vocabularies are not known yet."""
        text = [
            schema.Grain(name=name, kind=GrainKind.TEXT, size=0)
            for name in schema.TEXT_GRAINS
        ]
        attributes = [
            schema.Grain(name=name, kind=kind, size=0) for name, kind in self.attributes
        ]
        return schema.FeatureSpec(
            text_fields=self.text_fields,
            grains=(*text, *attributes),
            max_query_words=config.max_query_words,
            max_field_words=config.max_field_words,
        )


class Item(NamedTuple):
    """One item of the catalogue.

    Attributes:
        item_id: Its id.
        texts: One for each of the layout's text fields, `""` where it is missing; the title is first.
        attributes: One for each of the layout's attributes: a string (`""` missing) or a float (NaN missing).
    """

    item_id: str
    texts: tuple[str, ...]
    attributes: tuple[str | float, ...]


def item_layout(
    rows: Sequence[Fields], config: PreprocessConfig, *, path: str
) -> ItemLayout:
    """Learns from the first rows of the catalogue what its columns are used for.

    A column that the config gives no role has the role its name suggests, if any row of these fills it.

    Raises:
        CommandError: a required column, or one that the config names, is not there, or its name cannot be used.
    """
    present = list(dict.fromkeys(column for row in rows for column in row))
    shown = ", ".join(map(str, present))
    mapping = {"item_id": "item_id", "title": "title", **config.item_columns}
    for name, column in mapping.items():
        if column not in present:
            raise CommandError(
                f"expected the column {column} in {path}, which has {shown}; "
                f'name the column that holds it in --config: {{"item_columns": {{"{name}": "..."}}}}'
            )
    mapped = {column: name for name, column in mapping.items()}
    names = {
        mapped.get(column, column): column
        for column in present
        if column in mapped or column not in mapping
    }
    if unknown := sorted(config.roles.keys() - names.keys()):
        raise CommandError(
            f"the config gives a role to {', '.join(unknown)}, but {path} has only {shown}"
        )
    if fixed := sorted(config.roles.keys() & {"item_id", "title"}):
        raise CommandError(
            f"the column {fixed[0]} has its role already; take it out of the config's roles"
        )

    roles = {}
    for name, column in names.items():
        is_filled = any(row.get(column) not in (None, "", []) for row in rows)
        roles[name] = config.roles.get(name) or (
            _ROLES.get(name) if is_filled else None
        )
    del roles["item_id"]
    roles["title"] = "text"
    used = [name for name, role in roles.items() if role not in (None, "ignore")]
    for name in used:
        _check_name(name, is_attribute=roles[name] != "text")
    # What a category is called is text as well: a rare brand has no vector of its own, but people type its name.
    categories = [name for name in used if roles[name] == GrainKind.CATEGORICAL]
    texts = [name for name in used if roles[name] == "text" and name != "title"]
    return ItemLayout(
        columns={name: names[name] for name in ("item_id", *used)},
        text_fields=("title", *categories, *texts),
        attributes=tuple(
            (name, GrainKind(str(roles[name])))
            for name in used
            if roles[name] != "text"
        ),
        unused=tuple(str(names[name]) for name, role in roles.items() if role is None),
    )


def _check_name(name: str, *, is_attribute: bool) -> None:
    # Names become features, files and arguments of the serving signature.
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        raise CommandError(
            f"the column name {name!r} cannot name a feature (letters, digits and _ can); give it another in "
            f'--config: {{"item_columns": {{"other_name": "{name}"}}}}'
        )
    if is_attribute and name in _TAKEN:
        raise CommandError(
            f"the column name {name!r} is taken by a feature of every record; give it another in "
            f'--config: {{"item_columns": {{"item_{name}": "{name}"}}}}'
        )


def parse_item(fields: Fields, layout: ItemLayout) -> Item:
    """Checks one row of the catalogue and gives its values their types.

    Raises:
        RejectedRow: with the first thing that is wrong.
    """
    columns = layout.columns
    item_id = id_value(fields.get(columns["item_id"]), Rejected.BAD_ITEM_ID)
    if not item_id:
        raise RejectedRow(Rejected.MISSING_FIELD)
    texts = tuple(
        text_value(fields.get(columns[name]), Rejected.BAD_TEXT)
        for name in layout.text_fields
    )
    if not texts[0] or texts[0].isspace():
        raise RejectedRow(Rejected.EMPTY_TITLE)
    attributes = tuple(
        _number(fields.get(columns[name]))
        if kind is GrainKind.NUMBER
        else text_value(fields.get(columns[name]), Rejected.BAD_TEXT)
        for name, kind in layout.attributes
    )
    return Item(item_id, texts, attributes)


def _number(value: Any) -> float:
    """NaN where it is missing."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool | list | tuple | dict):
        raise RejectedRow(Rejected.BAD_NUMBER)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RejectedRow(Rejected.BAD_NUMBER) from None
    if abs(number) > _MAX_FLOAT32:
        raise RejectedRow(Rejected.BAD_NUMBER)
    return number
