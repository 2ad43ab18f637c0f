"""The training config: one frozen dataclass, its presets, and `key=value` overrides."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

from tfrs_mmse import schema
from tfrs_mmse.cli import CommandError

FUSIONS = ("post", "early")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the outcome of one training run, and nothing that belongs to a machine.

    Attributes:
        preset: The preset that the other values started from; names the system in reports.
        seed: Of initial values, data order and random negatives.
        grains: Comma-separated names of the grains to use; empty means all that the data has.
        embedding_dim: Dimensions of each text grain.
        attribute_dim: Dimensions of each attribute grain.
        title_weight: Of a token of the title, against one of any other text field.
        fusion: `post`: similarities are taken grain by grain and then fused. `early`: the grains are fused into one
            vector in each tower.
        temperature: Of the retrieval loss; smaller is sharper.
        clicked_weight: Weight of a clicked positive in the retrieval loss.
        ordered_weight: Weight of an ordered positive in the retrieval loss.
        uniform_negatives: Items drawn uniformly from the catalogue for each step, as negatives of every query.
        log_q: Whether the retrieval loss corrects for how often each negative is drawn.
        mask_positives: Whether items that the query is known to have clicked or ordered elsewhere are no negatives.
        ranking_weight: Weight of the ranking loss at the end of training; 0 switches it off.
        ranking_temperature: Of the ranking loss; smaller is sharper.
        ranking_warmup: Share of training during which the ranking loss's weight rises linearly from 0: easy negatives
            first.
        batch_size: Requests per step.
        epochs: Passes over the training requests.
        learning_rate: Of Adagrad.
        initial_scale: Standard deviation of the initial embeddings.
    """

    preset: str = "mmse"
    seed: int = 0
    grains: str = ""
    embedding_dim: int = 128
    attribute_dim: int = 32
    title_weight: float = 4.0
    fusion: str = "post"
    temperature: float = 0.05
    clicked_weight: float = 1.0
    ordered_weight: float = 2.0
    uniform_negatives: int = 1024
    log_q: bool = True
    mask_positives: bool = True
    ranking_weight: float = 0.1
    ranking_temperature: float = 0.1
    ranking_warmup: float = 0.5
    batch_size: int = 1024
    epochs: int = 12
    learning_rate: float = 0.1
    initial_scale: float = 0.05

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default):
                expected = type(field.default).__name__
                raise CommandError(
                    f"config field {field.name} must be {expected}, got {value!r}"
                )
        for name in (
            "embedding_dim",
            "attribute_dim",
            "batch_size",
            "epochs",
            "temperature",
            "ranking_temperature",
        ):
            self._require(name, getattr(self, name) > 0, "positive")
        for name in ("title_weight", "learning_rate", "initial_scale"):
            self._require(name, getattr(self, name) > 0, "positive")
        for name in (
            "uniform_negatives",
            "ranking_weight",
            "clicked_weight",
            "ordered_weight",
            "seed",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("ranking_warmup", 0 <= self.ranking_warmup <= 1, "from 0 to 1")
        self._require("fusion", self.fusion in FUSIONS, f"one of {', '.join(FUSIONS)}")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise CommandError(
                f"config field {name} must be {wanted}, got {getattr(self, name)!r}"
            )

    def chosen_grains(self, spec: schema.FeatureSpec) -> tuple[schema.Grain, ...]:
        """The grains of the data that this run uses, in the data's order."""
        if not self.grains:
            return spec.grains
        wanted = [name.strip() for name in self.grains.split(",")]
        names = [g.name for g in spec.grains]
        if unknown := [name for name in wanted if name not in names]:
            raise CommandError(
                f"config field grains names {', '.join(unknown)}, but the data has {', '.join(names)}"
            )
        if not any(g.name in wanted for g in spec.text_grains):
            raise CommandError(
                f"config field grains must name a text grain, one of {', '.join(schema.TEXT_GRAINS)}"
            )
        return tuple(g for g in spec.grains if g.name in wanted)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From JSON values; an unknown name is refused."""
        names = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(values.keys() - names):
            raise CommandError(
                f"unknown config fields {', '.join(unknown)}; known are {', '.join(sorted(names))}"
            )
        floats = {
            f.name for f in dataclasses.fields(cls) if isinstance(f.default, float)
        }
        # JSON and people write 1 for 1.0.
        values = {
            k: float(v) if k in floats and type(v) is int else v
            for k, v in values.items()
        }
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def override(self, settings: Sequence[str]) -> Self:
        """A copy with `key=value` settings applied; values are read as JSON, or else as text."""
        values = self.to_dict()
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise CommandError(f"--set takes key=value, got {setting!r}")
            if key == "preset" or key not in values:
                names = ", ".join(name for name in values if name != "preset")
                raise CommandError(
                    f"--set {key}: no such config field; known are {names}"
                )
            try:
                values[key] = (
                    json.loads(text) if not isinstance(values[key], str) else text
                )
            except ValueError:
                values[key] = text  # refused with the field's name and type
        return self.from_dict(values)


def mmse() -> TrainConfig:
    """Our reading of MMSE (arXiv 2303.11009).

    All grains, fused after the similarity; ordered and clicked items as positives of a sampled softmax, against
    in-batch and uniform random items; ordered > clicked > unclicked by a pairwise ranking loss inside each request.
    """
    return TrainConfig()


def two_tower() -> TrainConfig:
    """The plain two-tower model of the TensorFlow Recommenders retrieval tutorial, as a baseline.

    Every click is a positive of equal weight, an order is no more than a click; the only negatives are the other
    items of the batch, without correction for how often they are drawn; features are fused early, into one vector in
    each tower. Deviations, which make it stronger: it reads the same grains, its vectors are of unit length with the
    same temperature, and an item that stands in several requests of a batch is one negative, not several.
    """
    return TrainConfig(
        preset="two_tower",
        fusion="early",
        ordered_weight=1.0,
        uniform_negatives=0,
        log_q=False,
        mask_positives=False,
        ranking_weight=0.0,
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {"mmse": mmse, "two_tower": two_tower}
