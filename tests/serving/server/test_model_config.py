"""The models of a server, from a file in TensorFlow Serving's format."""

from pathlib import Path

import pytest

from serving.server.model_config import ModelConfig, VersionPolicy, read_model_config
from tfrs_mmse.cli import CommandError

TWO_MODELS = """
model_config_list {
  config {
    name: "shop"
    base_path: "/models/shop"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: "stable" value: 42 }
    version_labels { key: "canary" value: 43 }
  }
  config { name: "books" base_path: "/models/books" model_version_policy { latest { num_versions: 2 } } }
  config { name: "toys" base_path: "/models/toys" model_version_policy { all {} } }
}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.config"
    path.write_text(text)
    return path


def test_models_policies_and_labels_are_read(tmp_path: Path) -> None:
    assert read_model_config(write(tmp_path, TWO_MODELS)) == [
        ModelConfig(
            "shop",
            Path("/models/shop"),
            VersionPolicy(None, frozenset({42, 43})),
            {"stable": 42, "canary": 43},
        ),
        ModelConfig("books", Path("/models/books"), VersionPolicy(2)),
        ModelConfig("toys", Path("/models/toys"), VersionPolicy(None)),
    ]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (VersionPolicy(), [10, 9, 2]),  # of these, the first that can be loaded
        (VersionPolicy(None), [10, 9, 2]),
        (VersionPolicy(None, frozenset({2, 10, 77})), [10, 2]),
    ],
)
def test_candidates_are_the_wanted_versions_newest_first(
    policy: VersionPolicy, wanted: list[int]
) -> None:
    assert policy.candidates([2, 10, 9]) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "is no ModelServerConfig in protobuf's text format"),
        ("", "must hold a model_config_list with at least one config"),
        ('model_config_list { config { name: "a" } }', "model 'a' has no base_path"),
        (
            'model_config_list { config { name: "a/b" base_path: "/x" } }',
            "model 'a/b': a name must not be empty and holds no / or :",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/x" } config { name: "a" base_path: "/y" } }',
            "names a model twice: a",
        ),
        (
            'model_config_list { config { name: "a" base_path: "gs://x" } }',
            "base_path must be a local directory, not gs://x: mount or copy it",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/x" model_platform: "onnx" } }',
            "model_platform must be tensorflow, not onnx",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/x" model_version_policy { specific {} } } }',
            "the policy `specific` names no versions",
        ),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CommandError) as caught:
        read_model_config(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot be read \(FileNotFoundError\)"):
        read_model_config(tmp_path / "none")
