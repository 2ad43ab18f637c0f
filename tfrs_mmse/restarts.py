"""Starting one's own command anew: TensorFlow cannot leave a broken cluster and join it again in one process."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from tfrs_mmse.checkpoints import saved
from tfrs_mmse.cli import CommandError, say

MAX_IN_VAIN = 10  # restarts after which there was still no newer checkpoint
_MAX_PAUSE = 30  # seconds
# What a process tells the one that takes its place.
_VARIABLE = "TFRS_MMSE_RESTARTS"


def start_again(reason: str, model_dir: Path) -> NoReturn:
    """Replaces this process by one with the same command, after a pause that grows with every time in vain.

    Args:
        reason: For the person who reads along.
        model_dir: The run's directory; a new checkpoint there is progress.

    Raises:
        CommandError: there was no progress for too long.
    """
    newest = saved(model_dir)[-1].name if saved(model_dir) else ""
    before = json.loads(os.environ.get(_VARIABLE, "{}"))
    in_vain = before.get("in_vain", 0) + 1 if before.get("newest") == newest else 1
    if in_vain > MAX_IN_VAIN:
        raise CommandError(
            f"{reason}, and after {MAX_IN_VAIN} new starts there is no newer checkpoint: see what the others say, "
            "and run the same command on all again"
        )
    say(f"{reason}: starting again, from {newest or 'the beginning'}")
    time.sleep(min(2 ** (in_vain - 1), _MAX_PAUSE))
    os.environ[_VARIABLE] = json.dumps({"newest": newest, "in_vain": in_vain})
    _close_on_exec()
    os.execv(sys.executable, sys.orig_argv)


def _close_on_exec() -> None:
    """Sockets that stayed open would go on taking other workers' connections, and nobody would answer."""
    for name in os.listdir("/proc/self/fd"):
        # The listing itself was one of them.
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)
