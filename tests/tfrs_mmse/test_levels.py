import pytest

from tfrs_mmse.cli import CommandError
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.levels import absent_level_notes, check_wishes, ordered_weight
from tfrs_mmse.presets import PRESETS

EVERY = {"requests": 9, "ordered": 2, "clicked": 5, "unclicked": 20}


def without(*levels: str) -> dict[str, int]:
    """Counts of data that lacks the levels; the manifest may name them with 0, or not at all."""
    return {k: v for k, v in EVERY.items() if k not in levels[1:]} | {levels[0]: 0}


def notes(counts: dict[str, int], preset: str = "mmse", **fields: object) -> list[str]:
    config = TrainConfig.from_dict(PRESETS[preset]().to_dict() | fields)
    return absent_level_notes(config, counts)


def test_complete_data_needs_no_words() -> None:
    assert notes(EVERY) == []


@pytest.mark.parametrize(
    ("absent", "note"),
    [
        (("ordered",), "no ordered items: clicked items are the deepest level"),
        (("clicked",), "no clicked items: ordered items are the only positives"),
        (
            ("unclicked",),
            "no unclicked items: in-batch negatives are what other queries clicked or ordered, "
            "the ranking loss compares these two levels",
        ),
    ],
)
def test_an_absent_level_is_named_with_what_follows(
    absent: tuple[str, ...], note: str
) -> None:
    assert notes(without(*absent)) == [f"the training data has {note}"]


def test_with_one_level_left_the_ranking_loss_has_nothing_to_do() -> None:
    first, second = notes(without("ordered", "unclicked"))
    assert first == (
        "the training data has no ordered items: clicked items are the deepest level"
    )
    assert second == (
        "the training data has no unclicked items: in-batch negatives are what other queries clicked or ordered, "
        "and the ranking loss has nothing to compare"
    )
    (only,) = notes(without("unclicked"), ordered_level=False)
    assert only.endswith("and the ranking loss has nothing to compare")


def test_a_level_that_the_config_does_not_use_is_not_missed() -> None:
    assert notes(without("unclicked"), "mmse_without_unclicked") == []
    assert notes(without("ordered"), "mmse_without_ordered_level") == []


def test_without_a_ranking_loss_nothing_is_said_of_it() -> None:
    (note,) = notes(without("unclicked"), "mmse_without_ranking_loss")
    assert "ranking" not in note


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_work_with_what_is_there(preset: str) -> None:
    check_wishes(PRESETS[preset](), {"requests": 3, "clicked": 3})


@pytest.mark.parametrize(
    ("setting", "absent"),
    [
        ("ordered_share=0.75", "ordered"),
        ("unclicked_position_exponent=1.0", "unclicked"),
    ],
)
def test_a_setting_that_needs_an_absent_level_is_refused(
    setting: str, absent: str
) -> None:
    config = TrainConfig().override([setting])
    check_wishes(config, EVERY)
    field, value = setting.split("=")
    with pytest.raises(
        CommandError,
        match=f"{field} is set to {value}, but the training data has no {absent} items",
    ):
        check_wishes(config, without(absent))


def test_a_level_that_was_asked_back_must_be_there() -> None:
    config = PRESETS["mmse_without_unclicked"]().override(["unclicked=true"])
    with pytest.raises(CommandError, match="unclicked is set to True, but"):
        check_wishes(config, without("unclicked"))


def test_leaving_out_what_is_not_there_is_no_wish() -> None:
    config = TrainConfig().override(["unclicked=false", "ordered_share=0"])
    check_wishes(config, without("ordered", "unclicked"))


@pytest.mark.parametrize(
    ("share", "clicked", "ordered", "weight"),
    [
        (0.5, 600, 100, 6.0),  # 6 x 100 = 600
        (0.8, 100, 100, 4.0),  # 4 x 100 is 0.8 of 500
        (0.5, 100, 300, 1.0),  # more than the share by themselves, and never below a click
        (0.5, 9900, 100, 10.0),  # 99 would be needed
        (1.0, 100, 100, 10.0),
        (0.0, 600, 100, 1.0),
        (0.5, 600, 0, 1.0),
        (0.5, 0, 100, 1.0),
    ],
)  # fmt: skip
def test_orders_weigh_the_more_the_rarer_they_are(
    share: float, clicked: int, ordered: int, weight: float
) -> None:
    config = TrainConfig(ordered_share=share)
    counts = {"clicked": clicked, "ordered": ordered}
    assert ordered_weight(config, counts) == pytest.approx(weight)


def test_an_order_that_counts_as_a_click_weighs_as_one() -> None:
    config = TrainConfig(ordered_level=False)
    assert ordered_weight(config, {"clicked": 600, "ordered": 100}) == 1.0
    assert ordered_weight(TrainConfig(), {}) == 1.0
