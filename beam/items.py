"""The catalogue's columns, and the rule that parses one of its rows."""

import dataclasses
from collections.abc import Sequence

import polars as pl

from beam.accounting import Rejected, RejectedRow
from beam.batches import Batch, Fields
from beam.clock import Clock
from beam.config import PreprocessConfig
from beam.parsing import Parsed, parse_batch
from beam.values import each, id_value, is_missing, number_value, text_value
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
UPDATED_AT = "updated_at"


def known_role(name: str) -> str | None:
    """The role that a column of this name has where the config gives it none."""
    return _ROLES.get(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemLayout:
    """Which columns of the catalogue are used, and for what; all names but those in `columns` are ours.

    Attributes:
        columns: Our name -> the catalogue's column; `updated_at` only where the catalogue has it.
        text_fields: `title`, the categorical columns, the text columns; each kind in the catalogue's order.
        attributes: Categorical and number columns with their kind, in the catalogue's order.
        unused: The catalogue's columns that nobody gave a role.
        clock: How it writes moments.
    """

    columns: dict[str, str]
    text_fields: tuple[str, ...]
    attributes: tuple[tuple[str, GrainKind], ...]
    unused: tuple[str, ...]
    clock: Clock

    def table_schema(self) -> dict[str, type[pl.DataType]]:
        """The columns of a table of items, all named as here: `item_id`, `updated_at`, `text:F` and `attribute:A`.

        A text is `""` where it is missing, and so is a categorical attribute; a number is NaN.
        """
        texts = {text_column(name): pl.String for name in self.text_fields}
        attributes = {
            attribute_column(name): pl.Float64
            if kind is GrainKind.NUMBER
            else pl.String
            for name, kind in self.attributes
        }
        return {"item_id": pl.String, UPDATED_AT: pl.Float64, **texts, **attributes}

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


def text_column(field: str) -> str:
    return f"text:{field}"


def attribute_column(name: str) -> str:
    return f"attribute:{name}"


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
            known_role(name) if is_filled else None
        )
    moment = None if roles.get(UPDATED_AT) == "ignore" else names.get(UPDATED_AT)
    if not roles.get(UPDATED_AT):
        roles.pop(UPDATED_AT, None)
    del roles["item_id"]
    roles["title"] = "text"
    used = [name for name, role in roles.items() if role not in (None, "ignore")]
    for name in used:
        _check_name(name, is_attribute=roles[name] != "text")
    # What a category is called is text as well: a rare brand has no vector of its own, but people type its name.
    categories = [name for name in used if roles[name] == GrainKind.CATEGORICAL]
    texts = [name for name in used if roles[name] == "text" and name != "title"]
    return ItemLayout(
        columns={name: names[name] for name in ("item_id", *used)}
        | ({UPDATED_AT: moment} if moment is not None else {}),
        text_fields=("title", *categories, *texts),
        attributes=tuple(
            (name, GrainKind(str(roles[name])))
            for name in used
            if roles[name] != "text"
        ),
        unused=tuple(str(names[name]) for name, role in roles.items() if role is None),
        clock=item_clock(config),
    )


def item_clock(config: PreprocessConfig) -> Clock:
    """How the catalogue writes moments."""
    return Clock(
        config.item_timestamp_unit, config.item_time_zone, config.item_timestamp_format
    )


def can_name_feature(name: str) -> bool:
    """Names become features, files and arguments of the serving signature."""
    return isinstance(name, str) and name.isascii() and name.isidentifier()


def is_taken(name: str) -> bool:
    """Whether an attribute of that name would be mixed up with a feature of every record."""
    return name in _TAKEN


def _check_name(name: str, *, is_attribute: bool) -> None:
    if not can_name_feature(name):
        raise CommandError(
            f"the column name {name!r} cannot name a feature (letters, digits and _ can); give it another in "
            f'--config: {{"item_columns": {{"other_name": "{name}"}}}}'
        )
    if is_attribute and is_taken(name):
        raise CommandError(
            f"the column name {name!r} is taken by a feature of every record; give it another in "
            f'--config: {{"item_columns": {{"item_{name}": "{name}"}}}}'
        )


def parse_item(fields: Fields, layout: ItemLayout) -> tuple[str | float, ...]:
    """Checks one row of the catalogue and gives its values their types.

    Returns:
        Its values in the order of `ItemLayout.table_schema`.

    Raises:
        RejectedRow: with the first thing that is wrong.
    """
    columns = layout.columns
    item_id = id_value(fields.get(columns["item_id"]), Rejected.BAD_ITEM_ID)
    if not item_id:
        raise RejectedRow(Rejected.MISSING_FIELD)
    texts = [_text(fields.get(columns[name])) for name in layout.text_fields]
    if not texts[0] or texts[0].isspace():
        raise RejectedRow(Rejected.EMPTY_TITLE)
    attributes = [
        number_value(fields.get(columns[name]))
        if kind is GrainKind.NUMBER
        else _text(fields.get(columns[name]))
        for name, kind in layout.attributes
    ]
    moment = fields.get(columns[UPDATED_AT]) if UPDATED_AT in columns else None
    updated_at = _updated_at(moment, layout.clock)
    return item_id, updated_at, *texts, *attributes


def parse_items(batch: Batch, layout: ItemLayout) -> Parsed:
    """`parse_item` for a whole batch: a table of `ItemLayout.table_schema` and what is rejected."""
    columns, column = layout.columns, batch.rows.column
    moments = (
        column(columns[UPDATED_AT])
        if UPDATED_AT in columns
        else [None] * len(batch.lines)
    )
    values = {
        "item_id": each(
            lambda value: id_value(value, Rejected.BAD_ITEM_ID),
            column(columns["item_id"]),
        ),
        UPDATED_AT: each(lambda value: _updated_at(value, layout.clock), moments),
    }
    for name in layout.text_fields:
        values[text_column(name)] = each(_text, column(columns[name]))
    for name, kind in layout.attributes:
        rule = number_value if kind is GrainKind.NUMBER else _text
        values[attribute_column(name)] = each(rule, column(columns[name]))
    title = pl.col(text_column(layout.text_fields[0]))
    is_good = (pl.col("item_id") != "") & title.str.contains(r"[\p{L}\p{N}\p{P}\p{S}]")
    return parse_batch(
        batch,
        values,
        layout.table_schema(),
        is_good,
        lambda fields: parse_item(fields, layout),
    )


def _text(value: object) -> str:
    return text_value(value, Rejected.BAD_TEXT)


def _updated_at(value: object, clock: Clock) -> float:
    return 0.0 if is_missing(value) else clock.seconds(value)
