"""The commands that users type, each in a process of its own, with its log in a file."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrs_mmse import cli

ROOT = Path(__file__).resolve().parents[1]  # where `python -m` finds the packages


class StepFailed(cli.CommandError):
    """A command ended with another exit status than 0; the text is one sentence with its last words."""


def run(
    module: str,
    *args: object,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Runs one of our commands.

    Args:
        module: As in `python -m module`.
        *args: The rest of the command line; relative paths would be those of the repository.
        log: Receives the command line and its stderr, after what is in the file already.
        environment: Variables beside our own ones.

    Returns:
        Its JSON document.

    Raises:
        StepFailed: its exit status is not 0.
    """
    return json.loads(
        run_program("-m", module, *args, log=log, environment=environment)
    )


def run_program(
    *args: object, log: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Runs Python with these arguments; otherwise as `run`.

    Returns:
        What it wrote to stdout.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, *map(str, args)]
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(argv)}\n")
        file.flush()
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().split("\n")[-1]
        raise StepFailed(
            f"`{shlex.join(map(str, args))}` ended with exit status {done.returncode} "
            f"({last.removeprefix('error: ')}); its log is {log}"
        )
    return done.stdout
