"""Trains a two-tower model on examples that `python -m beam.preprocess` wrote.

    python -m tfrs_mmse.train --data examples --model-dir runs/mmse --preset mmse --set epochs=6

Writes to the model directory: config.json and vocab/ (before the work starts), checkpoints/, metrics.jsonl (a line an
epoch) and tensorboard/. A run that was stopped or killed goes on by the same command, and ends as if nothing had
happened. Ctrl-C and SIGTERM stop it after the step that it is at, with a checkpoint; a second one at once. With
--set patience=2 some queries are held out; when their recall has not risen for two epochs the training stops, and the
model is that of the best epoch. A --config file holds JSON fields of `TrainConfig` that replace the preset's; --set
replaces single fields after that. The fields stand in docs/config.md, or behind --help-config. Several machines train
together when TF_CONFIG names them (docs/clusters.md).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrs_mmse import cli, config_docs
from tfrs_mmse.config import TrainConfig
from tfrs_mmse.presets import OTHER_PARTS, PARTS, PRESETS, WITH, WITHOUT
from tfrs_mmse.stopping import Stop


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, resolves the config, trains and prints the summary."""
    parser = cli.argument_parser("tfrs_mmse.train", __doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="directory that beam.preprocess wrote"
    )
    parser.add_argument(
        "--model-dir",
        type=Path,
        required=True,
        help="directory of this run; made if it is not there",
    )
    whole = [name for name in PRESETS if not name.startswith((WITHOUT, WITH))]
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="mmse",
        metavar="NAME",
        help=f"{', '.join(whole)}, {WITHOUT}PART with PART one of {', '.join(PARTS)}, or {WITH}PART with PART "
        f"one of {', '.join(OTHER_PARTS)}; default: %(default)s",
    )
    parser.add_argument("--config", type=Path, help="JSON file with config fields")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one config field; repeatable",
    )
    parser.add_argument(
        "--help-config",
        action=_HelpConfig,
        nargs=0,
        help="show every config field with its type, range, default and meaning, and exit",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=cli.positive_int,
        default=600,
        metavar="N",
        help="how often a checkpoint is saved beside those at the ends of the epochs; how often changes no result; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out damaged shards, each as a whole, and say how many, instead of refusing the data; a run "
        "goes on only with the shards that it began with",
    )
    parser.add_argument(
        "--summary-steps",
        type=cli.positive_int,
        default=100,
        metavar="N",
        help="how often TensorBoard shows a step beside the last of each epoch; how often changes no result; "
        "default: %(default)s",
    )
    args = parser.parse_args(argv)
    config = resolve(args.preset, args.config, args.set)

    # Imports TensorFlow, which --help need not wait for.
    from tfrs_mmse.trainer import train

    with Stop() as stop:
        summary = train(
            config,
            args.data,
            args.model_dir,
            checkpoint_seconds=args.checkpoint_seconds,
            summary_steps=args.summary_steps,
            skip_corrupt=args.skip_corrupt,
            stop=stop,
        )
    if summary is not None:
        cli.print_result(summary)


class _HelpConfig(argparse.Action):
    """As --help: needs no other argument, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        print(config_docs.document(), end="")
        parser.exit()


def resolve(
    preset: str, config_file: Path | None, settings: Sequence[str]
) -> TrainConfig:
    """The preset, then the file's fields, then the single settings."""
    config = PRESETS[preset]()
    if config_file is not None:
        try:
            values = json.loads(config_file.read_text(encoding="utf-8"))
        except ValueError as e:
            raise cli.CommandError(f"{config_file} is not valid JSON ({e})") from None
        if not isinstance(values, dict):
            raise cli.CommandError(
                f"{config_file} must hold a JSON object of config fields"
            )
        config = TrainConfig.from_dict({**config.to_dict(), **values})
    return config.override(settings)


if __name__ == "__main__":
    sys.exit(main())
