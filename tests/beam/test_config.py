"""The preprocessing config: what it refuses, and that it says so by name."""

import json
from pathlib import Path

import pytest

from beam.config import PreprocessConfig
from tfrs_mmse.cli import CommandError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mincount": 3},
            "the config names mincount, which it does not have; it has event_columns,",
        ),
        ({"min_count": "3"}, "min_count must be int, got '3'"),
        ({"min_count": True}, "min_count must be int, got True"),
        ({"min_count": 0}, "min_count must be at least 1, got 0"),
        ({"test_fraction": 1.0}, "test_fraction must lie between 0 and 1, got 1.0"),
        ({"test_fraction": float("nan")}, "test_fraction must be float, got nan"),
        ({"split_by": "user"}, "split_by must be one of time, query, got 'user'"),
        (
            {"event_columns": {"term": "q"}},
            "event_columns names term; events have event, request_id,",
        ),
        (
            {"item_columns": ["title"]},
            "item_columns must be an object of strings, got \\['title'\\]",
        ),
        (
            {"item_columns": {"description": "title"}},
            "item_columns gives the column title two names; give it one",
        ),
        (
            {"item_columns": {"item_id": "sku", "title": "sku"}},
            "item_columns gives the column sku two names",
        ),
        ({"attribution_hours": 10**400}, "attribution_hours must be float, got 1000"),
        (
            {"roles": {"size": "label"}},
            "the role of column size must be one of text, categorical, number, ignore",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        PreprocessConfig.from_dict(values)


def test_a_file_sets_its_fields_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"min_count": 5, "attribution_hours": 1}')
    config = PreprocessConfig.read(path)
    assert config == PreprocessConfig(min_count=5, attribution_hours=1.0)


def test_to_dict_is_json_and_reads_back() -> None:
    config = PreprocessConfig(roles={"size": "number"}, split_by="query")
    assert (
        PreprocessConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not valid JSON"), ("[]", "must hold one JSON object, got list")],
)
def test_a_file_that_is_no_object_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(CommandError, match=message):
        PreprocessConfig.read(path)
