"""Records that are well-formed and hold what the manifest rules out."""

import pytest
import tensorflow as tf

from tfrs_mmse import records, schema

SPEC = schema.FeatureSpec(
    text_fields=("title", "tags"),
    grains=(
        schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=10),
        schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=5),
    ),
    max_query_words=8,
    max_field_words=8,
)
# One request of two items; each has two fields.
GOOD: dict[str, list] = {
    "query": [b"mug"],
    "query/word": [4, 9],
    "query/positive_item_id": [b"a"],
    "item_id": [b"a", b"b"],
    "item/level": [3, 1],
    "item/position": [0, -1],
    "item/log_probability": [-2.0, float("-inf")],
    "item/word": [1, 2, 0],
    "item/word/length": [1, 0, 1, 1],
    "item/brand": [4, 0],
}


def parse(**changes: list | None) -> records.Requests:
    example = tf.train.Example()
    for name, values in {
        **GOOD,
        **{k.replace("__", "/"): v for k, v in changes.items()},
    }.items():
        feature = example.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif values and isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values or [])
    return records.parse_requests(tf.constant([example.SerializeToString()]), SPEC)


def test_a_good_record_passes() -> None:
    assert parse().level.numpy().tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item__word": [1, 2, 10]}, "item/word holds ids beyond its vocabulary of 10"),
        ({"item__word": [1, -1, 0]}, "item/word holds ids beyond"),
        ({"query__word": [10]}, "query/word holds ids beyond"),
        ({"item__brand": [5, 0]}, "item/brand holds ids beyond its vocabulary of 5"),
        ({"item__word__length": []}, "item/word does not fit the items of its record"),
        (
            {"item__word__length": [1, 1]},
            "item/word does not fit the items of its record",
        ),
        ({"item__word__length": [1, 0, 1, 0]}, "item/word/length does not fit the ids"),
        (
            {"item__word__length": [5, 0, -3, 1]},
            "item/word/length does not fit the ids",
        ),
        ({"item__brand": []}, "item/brand does not fit the items of its record"),
        ({"item__level": []}, "item/level does not fit the items of its record"),
        ({"item__level": [3, 4]}, "item/level holds what is no level"),
        ({"item__level": [0, 1]}, "item/level holds what is no level"),
        ({"item__position": [0]}, "item/position does not fit the items of its record"),
        (
            {"item__log_probability": [-1.0]},
            "item/log_probability does not fit the items of its record",
        ),
        (
            {"item__log_probability": [-1.0, float("nan")]},
            "item/log_probability holds what is no logarithm of a probability",
        ),
        ({"item__level": [b"3", b"1"]}, "item/level"),
        ({"item_id": [1, 2]}, "item_id"),
    ],
)
def test_a_record_that_the_manifest_rules_out_is_refused_by_its_feature(
    changes: dict[str, list], message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        parse(**changes)


def test_what_is_no_example_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse example"):
        records.parse_requests(tf.constant([b"no example"]), SPEC)
