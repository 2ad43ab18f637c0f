"""Prints what is known of every field of the training config, as Markdown.

    python -m tfrs_mmse.config_docs > docs/config.md

Names, types, defaults, ranges and descriptions are those of `tfrs_mmse.config.TrainConfig`, by which `--set` and
--config are checked.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence

from tfrs_mmse import cli, fields
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.presets import PRESETS

_WIDTH = 120
_HEAD = (
    "# The training config\n\n"
    "<!-- Written by `make docs` from tfrs_mmse/config.py: change it there. -->\n\n"
    "Each field can be set by `python -m tfrs_mmse.train --set FIELD=VALUE`, or in the JSON object of a `--config` "
    "file. A preset is these fields with other values, which stand with each field; [losses.md](losses.md) says which "
    "loss suits which data."
)


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Prints the document."""
    cli.argument_parser("tfrs_mmse.config_docs", __doc__).parse_args(argv)
    print(document(), end="")


def document() -> str:
    """The whole document; a section for each field that a person can set."""
    described = [f for f in fields.describe(TrainConfig) if f.name != "preset"]
    sections = [paragraph for field in described for paragraph in _section(field)]
    head = [textwrap.fill(part, _WIDTH) for part in _HEAD.split("\n\n")]
    return "\n\n".join([*head, *sections]) + "\n"


def _section(field: fields.Field) -> Iterator[str]:
    yield f"## {field.name}"
    facts = [f"`{field.type}`", field.wanted, f"default `{json.dumps(field.default)}`"]
    yield textwrap.fill(", ".join(filter(None, facts)), _WIDTH)
    yield textwrap.fill(field.description, _WIDTH)
    if others := _preset_values(field):
        yield textwrap.fill(f"Presets: {', '.join(others)}", _WIDTH)


def _preset_values(field: fields.Field) -> list[str]:
    """`NAME VALUE` of each preset in which the field is not at its default."""
    values = {name: getattr(make(), field.name) for name, make in PRESETS.items()}
    return [
        f"`{name}` `{json.dumps(value)}`"
        for name, value in values.items()
        if value != field.default
    ]


if __name__ == "__main__":
    sys.exit(main())
