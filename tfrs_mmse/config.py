"""The training config: one frozen dataclass, and `key=value` overrides."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Self

from tfrs_mmse import fields, schema
from tfrs_mmse.cli import CommandError
from tfrs_mmse.fields import not_negative, one_of, positive, share

SOFTMAX_LOSSES = ("softmax", "mixed_softmax")
AUTO, FLOAT32, MIXED = "auto", "float32", "mixed_float16"  # of `precision`
ATTRIBUTES = "attributes"  # in `grains`: all attribute grains


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the outcome of one training run, and nothing that belongs to a machine.

    docs/losses.md says which loss suits which data.

    Attributes:
        preset: The preset that the other values started from; names the system in reports.
        seed: Of initial values, data order and random negatives.
        grains: Comma-separated names of the grains to use; empty means all that the data has. With a minus before each
            name, all but these. `attributes` stands for all attribute grains.
        embedding_dim: Dimensions of each text grain.
        attribute_dim: Dimensions of each attribute grain.
        title_weight: Of a token of the title, against one of any other text field.
        fusion: `post`: similarities are taken grain by grain and then fused. `early`: the grains are fused into one
            vector in each tower.
        unclicked: Whether items that were shown and not clicked take part; if not, they are left out of the batches
            altogether. The log-Q correction is approximate then: items' shares are counted with them.
        ordered_level: Whether an order is a level above a click; if not, it counts as a click everywhere.
        retrieval_loss: Compares each clicked or ordered item with the whole catalogue.
        temperature: Of the softmax retrieval losses; smaller is sharper.
        margin: Of the retrieval loss `hinge`, in units of the score.
        mixed_negatives: Of the retrieval loss `mixed_softmax`: mixed negatives of each positive.
        mixing: Of the retrieval loss `mixed_softmax`: the positive's share in a mixed negative is uniform up to this.
        ordered_share: Share of the log's positives that ordered items make up by weight, in the retrieval loss. The
            rarer orders are, the more each weighs, there and by its pairs in the ranking loss: from 1 to 10 clicks (see
            `levels.ordered_weight`). The larger, the more the model gives up of finding clicked items for finding
            ordered ones; with 0, an order weighs as a click.
        use_log: Whether the requests of the log are learned from; if not, synthetic queries are all there is.
        synthetic_queries: Queries made for each step from words of uniformly drawn items, which count as clicked for
            them.
        uniform_negatives: Items drawn uniformly from the catalogue for each step, as negatives of every query; at
            least `synthetic_queries` are drawn.
        log_q: Whether the retrieval loss corrects for how often each negative is drawn.
        mask_positives: Whether items that the query is known to have clicked or ordered elsewhere are no negatives.
        ranking_loss: Compares the levels inside each request.
        ranking_weight: Weight of the ranking loss at the end of training; 0 switches it off.
        ranking_temperature: Of the ranking losses `logistic` and `listwise`; smaller is sharper.
        ranking_margin: Of the ranking loss `hinge`, in units of the score.
        ranking_warmup: Share of training during which the ranking loss's weight rises linearly from 0: easy negatives
            first.
        unclicked_position_exponent: How fast an unclicked item's weight in the ranking loss falls with its distance
            below the last click; 0 weighs all alike.
        batch_size: Requests per step.
        epochs: Passes over the training requests.
        learning_rate: Of Adagrad.
        initial_scale: Standard deviation of the initial embeddings.
        precision: Of the products of scores and linear maps, in training only. `auto` is `mixed_float16` if there is a
            GPU when the run begins, and else `float32`, which everything else is computed in anyway.
        patience: Epochs without a better recall on validation queries after which the training stops; the model is then
            that of the best epoch. With 0, all epochs are trained, on all queries, and the model is the last one.
        validation_share: Share of the distinct training queries that are left out of training to validate with, if
            `patience` is above 0. They still count in what preprocessing has counted: vocabularies, items' shares, and
            what an ordered item weighs.
    """

    preset: str = "mmse"
    seed: int = not_negative(0)
    grains: str = ""
    embedding_dim: int = positive(256)
    attribute_dim: int = positive(32)
    title_weight: float = positive(4.0)
    fusion: str = one_of("post", "early")
    unclicked: bool = True
    ordered_level: bool = True
    retrieval_loss: str = one_of(*SOFTMAX_LOSSES, "hinge")
    temperature: float = positive(0.05)
    margin: float = not_negative(0.1)
    mixed_negatives: int = positive(8)
    mixing: float = share(0.5)
    ordered_share: float = share(0.5)
    use_log: bool = True
    synthetic_queries: int = not_negative(512)
    uniform_negatives: int = not_negative(1024)
    log_q: bool = True
    mask_positives: bool = True
    ranking_loss: str = one_of("logistic", "hinge", "listwise")
    ranking_weight: float = not_negative(0.3)
    ranking_temperature: float = positive(0.1)
    ranking_margin: float = not_negative(0.1)
    ranking_warmup: float = share(0.5)
    unclicked_position_exponent: float = not_negative(0.0)
    batch_size: int = positive(1024)
    epochs: int = positive(12)
    learning_rate: float = positive(0.1)
    initial_scale: float = positive(0.05)
    precision: str = one_of(AUTO, FLOAT32, MIXED)
    patience: int = not_negative(0)
    validation_share: float = share(0.05)

    def __post_init__(self) -> None:
        fields.check(self)
        if not (self.use_log or self.synthetic_queries):
            raise CommandError(
                "config field use_log must be true, because synthetic_queries is 0 and there must be something to "
                "learn from, got False"
            )
        if self.patience and not self.use_log:
            raise CommandError(
                "config field patience must be 0, because use_log is false and there are no queries to validate with, "
                f"got {self.patience}"
            )
        self._named_grains()

    @property
    def num_random_items(self) -> int:
        """Items drawn uniformly for each step."""
        return max(self.uniform_negatives, self.synthetic_queries)

    @property
    def dtype_policy(self) -> str:
        """What Keras calls the precision; `auto` is that of a CPU until it is known where the training runs."""
        return MIXED if self.precision == MIXED else FLOAT32

    def _named_grains(self) -> tuple[bool, list[str]]:
        """Whether the names in `grains` are of those to leave out, and the names."""
        names = [name.strip() for name in self.grains.split(",") if name.strip()]
        minus = [name.startswith("-") for name in names]
        if any(minus) and not all(minus):
            raise CommandError(
                "config field grains must name the grains to use, or with a minus those to leave out, not both, "
                f"got {self.grains!r}"
            )
        return any(minus), [name.removeprefix("-").strip() for name in names]

    def chosen_grains(self, spec: schema.FeatureSpec) -> tuple[schema.Grain, ...]:
        """The grains of the data that this run uses, in the data's order.

        Raises:
            CommandError: the data lacks a grain that is named, or no text grain is left.
        """
        without, named = self._named_grains()
        if not named:
            return spec.grains
        names = [g.name for g in spec.grains]
        attributes = {g.name for g in spec.attribute_grains}
        known = {*names, ATTRIBUTES} if attributes else set(names)
        if unknown := [name for name in named if name not in known]:
            raise CommandError(
                f"config field grains names {', '.join(unknown)}, but the data has {', '.join(names)}"
            )
        listed = {*named, *(attributes if ATTRIBUTES in named else ())}
        chosen = tuple(g for g in spec.grains if (g.name in listed) != without)
        if not any(g.kind is schema.GrainKind.TEXT for g in chosen):
            raise CommandError(
                f"config field grains must leave a text grain, one of {', '.join(schema.TEXT_GRAINS)}, "
                f"got {self.grains!r}"
            )
        return chosen

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
