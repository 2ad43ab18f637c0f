"""What is said of a split by time whose parts are far from those of the period."""

import pytest

from beam.checks import odd_split
from beam.config import PreprocessConfig


@pytest.mark.parametrize(
    ("train", "test", "is_odd"),
    [(80, 20, False), (60, 40, False), (95, 5, False), (1, 199, True), (59, 1, True)],
)
def test_a_split_far_from_its_part_of_the_period_is_told(
    train: int, test: int, is_odd: bool
) -> None:
    splits = {"train": {"requests": train}, "test": {"requests": test}}
    sentence = odd_split(splits, PreprocessConfig())
    assert (sentence is not None) == is_odd
    if sentence:
        assert f"holds {test / (train + test):.1%} of the requests" in sentence
    assert odd_split(splits, PreprocessConfig(split_by="query")) is None
