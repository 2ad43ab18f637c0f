"""The main program of a worker process (`workers.py`): Beam's own, but it ends as soon as the command is gone.

Nothing is ever written to its standard input, which the command holds open: its end is the end of the command, however
that came. Beam's program alone would notice within a minute.
"""

import os
import sys
import threading

from apache_beam.runners.worker import sdk_worker_main


def _end_with_the_command() -> None:
    os.read(
        sys.stdin.fileno(), 1
    )  # below Python's buffer, whose lock would be held when this process ends
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    sdk_worker_main.main(sys.argv)
