"""Which columns of a catalogue a trained model reads: what its examples were made of, whatever else is there."""

from collections.abc import Sequence

from beam.batches import Fields
from beam.config import PreprocessConfig
from beam.items import UPDATED_AT, ItemLayout, item_clock
from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError


def known_layout(
    spec: schema.FeatureSpec,
    rows: Sequence[Fields],
    config: PreprocessConfig,
    *,
    path: str,
) -> ItemLayout:
    """What the columns of a catalogue are used for by a model with this feature spec.

    Unlike `item_layout` it learns nothing from the rows: another day's catalogue may fill other columns.

    Args:
        spec: The model's feature spec.
        rows: The first rows of the catalogue.
        config: What its columns are called, and how it writes moments; the roles in it are not used.
        path: The file of these rows, for the message.

    Raises:
        CommandError: a column that the model reads is not there.
    """
    present = dict.fromkeys(column for row in rows for column in row)
    attributes = tuple((grain.name, grain.kind) for grain in spec.attribute_grains)
    names = ["item_id", *spec.text_fields, *(name for name, _ in attributes)]
    if UPDATED_AT in config.item_columns or UPDATED_AT in present:
        names.append(UPDATED_AT)
    columns = {name: config.item_columns.get(name, name) for name in names}
    missing = {
        name: column for name, column in columns.items() if column not in present
    }
    if missing:
        name = next(iter(missing))
        raise CommandError(
            f"the model reads the columns {', '.join(missing.values())}, which {path} does not have; it has "
            f'{", ".join(map(str, present))}: name the columns that hold them in --config: {{"item_columns": '
            f'{{"{name}": "..."}}}}, or add them empty'
        )
    return ItemLayout(
        columns=columns,
        text_fields=spec.text_fields,
        attributes=attributes,
        unused=tuple(str(c) for c in present if c not in columns.values()),
        clock=item_clock(config),
    )
