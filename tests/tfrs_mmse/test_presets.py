import dataclasses
import json

import pytest

from tfrs_mmse.config import TrainConfig
from tfrs_mmse.presets import OTHER_PARTS, PARTS, PRESETS, mmse


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json_carry_their_name_and_say_what_they_are(name: str) -> None:
    config = PRESETS[name]()
    assert config.preset == name
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", ["mmse", "two_tower", "dpsr", "mgdspr"])
def test_presets_cite_their_source(name: str) -> None:
    doc = PRESETS[name].__doc__ or ""
    assert "arXiv" in doc or "TensorFlow Recommenders" in doc


@pytest.mark.parametrize("part", PARTS)
def test_mmse_without_a_part_differs_from_mmse_in_that_part_only(part: str) -> None:
    whole = dataclasses.asdict(mmse())
    less = dataclasses.asdict(PRESETS[f"mmse_without_{part}"]())
    changed = {field for field in whole if whole[field] != less[field]}
    # Synthetic queries are made of uniformly drawn items: without the latter there are none.
    more = {"synthetic_queries"} if part == "uniform_negatives" else set()
    assert len(changed - more) == 2 and "preset" in changed


@pytest.mark.parametrize("part", OTHER_PARTS)
def test_mmse_with_another_part_is_another_system(part: str) -> None:
    other = PRESETS[f"mmse_with_{part}"]()
    assert dataclasses.replace(other, preset="mmse") != mmse()
