"""One schema: what is checked, what --help-config shows, and what docs/config.md says."""

import dataclasses
from pathlib import Path

import pytest

from tfrs_mmse import config_docs, fields, train
from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oven:
    """An oven.

    It has: no door.

    Attributes:
        heat: How hot it is; a line that goes on
            in the next one: like this.
        kind: Of oven.
        door: Whether it is open.
    """

    heat: float = fields.positive(180.0)
    kind: str = fields.one_of("gas", "electric")
    door: bool = False


def test_a_field_is_described_by_the_class_that_has_it() -> None:
    assert fields.describe(Oven) == [
        (
            "heat",
            "float",
            180.0,
            "positive",
            "How hot it is; a line that goes on in the next one: like this.",
        ),
        ("kind", "str", "gas", "one of gas, electric", "Of oven."),
        ("door", "bool", False, "", "Whether it is open."),
    ]
    assert fields.choices(Oven, "kind") == ("gas", "electric")


def test_a_field_without_description_is_noticed() -> None:
    @dataclasses.dataclass
    class Bare:
        """Nothing."""

        heat: float = 1.0

    with pytest.raises(KeyError, match="heat"):
        fields.describe(Bare)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heat": 0.0}, "heat must be positive, got 0.0"),
        ({"heat": 1}, "heat must be float, got 1"),
        ({"kind": "wood"}, "kind must be one of gas, electric, got 'wood'"),
        ({"door": 0}, "door must be bool, got 0"),
    ],
)
def test_what_a_field_cannot_be_is_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(CommandError, match=f"config field {message}$"):
        fields.check(Oven(**values))  # type: ignore[arg-type]
    fields.check(Oven())


def test_the_document_in_the_repository_is_what_the_command_prints() -> None:
    written = Path(__file__).parents[2] / "docs" / "config.md"
    assert written.read_text(encoding="utf-8") == config_docs.document(), "make docs"


def test_every_field_that_can_be_set_has_a_section() -> None:
    text = config_docs.document()
    sections = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    assert sections == [name for name in names if name != "preset"]
    assert "`float`, from 0 to 1, default `0.5`" in text
    assert "`two_tower` `false`" in text


def test_the_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--help-config"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == config_docs.document()


def test_patience_needs_a_log() -> None:
    with pytest.raises(CommandError, match="patience must be 0, because use_log is"):
        TrainConfig(use_log=False, patience=2)
