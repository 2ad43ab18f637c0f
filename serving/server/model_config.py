"""Which models a server has, from its flags or from TensorFlow Serving's `--model_config_file`."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfrs_mmse.cli import CommandError


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served, as TensorFlow Serving's `model_version_policy`.

    Attributes:
        latest: How many of the newest; None for all, or for those of `specific`.
        specific: These numbers alone; empty: any.
    """

    latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def candidates(self, versions: Iterable[int]) -> list[int]:
        """The versions that may be served, newest first; of these, the first `latest` that can be loaded are."""
        wanted = (v for v in versions if not self.specific or v in self.specific)
        return sorted(wanted, reverse=True)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Attributes:
        name: What requests call it.
        base_path: Holds its numeric versions.
        policy: See there.
        labels: Version numbers by label, such as `stable` and `canary`.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_model_config(path: Path) -> list[ModelConfig]:
    """Reads a `ModelServerConfig` in protobuf's text format.

    Raises:
        CommandError: it cannot be read, or holds what this server does not do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CommandError(
            f"--model_config_file {path} cannot be read ({e.__class__.__name__}): give a text file"
        ) from None
    try:
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as e:
        raise CommandError(
            f"--model_config_file {path} is no ModelServerConfig in protobuf's text format ({e})"
        ) from None
    models = [_model(m, path) for m in config.model_config_list.config]
    if not models:
        raise CommandError(
            f"--model_config_file {path} must hold a model_config_list with at least one config"
        )
    names = [model.name for model in models]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise CommandError(
            f"--model_config_file {path} names a model twice: {', '.join(sorted(repeated))}"
        )
    return models


def _model(config: model_server_config_pb2.ModelConfig, path: Path) -> ModelConfig:
    where = f"--model_config_file {path}: model {config.name!r}"
    if not config.name or "/" in config.name or ":" in config.name:
        raise CommandError(f"{where}: a name must not be empty and holds no / or :")
    if config.model_platform not in ("", "tensorflow"):
        raise CommandError(
            f"{where}: model_platform must be tensorflow, not {config.model_platform}"
        )
    if not config.base_path:
        raise CommandError(f"{where} has no base_path")
    if "://" in config.base_path:
        raise CommandError(
            f"{where}: base_path must be a local directory, not {config.base_path}: mount or copy it"
        )
    return ModelConfig(
        config.name,
        Path(config.base_path),
        _policy(config.model_version_policy, where),
        dict(config.version_labels),
    )


def _policy(policy: Any, where: str) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy(latest=None)
        case "specific":
            if not policy.specific.versions:
                raise CommandError(f"{where}: the policy `specific` names no versions")
            return VersionPolicy(None, frozenset(policy.specific.versions))
        case "latest":
            # As in TensorFlow Serving, where 0 stands for the default.
            return VersionPolicy(policy.latest.num_versions or 1)
        case _:
            return VersionPolicy()
