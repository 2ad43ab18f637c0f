"""What all commands share: logs on stderr, one JSON document on stdout, and one sentence when something is wrong."""

import argparse
import contextlib
import functools
import json
import logging
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

Main = Callable[[Sequence[str] | None], None]

_NODES = re.compile(
    r"\{\{.*?\}\} ?| ?\[Op:\w+\](?: name:.*)?"
)  # where in a graph an error came from


class CommandError(Exception):
    """Something the caller can put right; the text is one sentence: what was expected, what came, what to do."""


class Stopped(KeyboardInterrupt):
    """The command was told by a signal to stop, and the same command goes on from there."""

    def __init__(self, number: signal.Signals, when: str) -> None:
        """Args:
        number: The signal.
        when: What the command had come to.
        """
        super().__init__(f"stopped by {number.name} {when}: the same command goes on")
        self.exit_status = 128 + number  # as a shell says it


def command(main: Main) -> Callable[..., int]:
    """Turns `main(argv)` into a command: exit status 0, or 1 with one sentence on stderr.

    `CommandError` is a mistake of the caller's; `OSError` is the machine's (disk full, no permission, port in use);
    `Stopped` is neither, and gives 128 and the signal's number.
    Anything else is a bug of ours and keeps its traceback. Wrong usage exits with 2, by argparse.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        logging.basicConfig(
            stream=sys.stderr,
            level=logging.WARNING,
            format="%(levelname)s %(name)s: %(message)s",
        )
        try:
            main(argv)
        except CommandError as e:
            print(f"error: {e}", file=sys.stderr)
            return 1
        except OSError as e:
            print(
                f"error: {e.strerror or e}{f': {e.filename}' if e.filename else ''}",
                file=sys.stderr,
            )
            return 1
        except Stopped as e:
            print(e, file=sys.stderr)
            return e.exit_status
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 1
        return 0

    return run


def argument_parser(module: str, manual: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m module` whose help is the module's docstring, as it stands; no flag can be shortened."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def positive_int(text: str) -> int:
    """The `type` of an argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1, got {text!r}"
        )
    return int(text)


def say(text: str) -> None:
    """A progress line for a person, on stderr; nothing fails because it cannot be written, to a full disk for one."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def print_result(result: Any) -> None:
    """The result for a program: one JSON document on stdout."""
    print(json.dumps(result, indent=2, ensure_ascii=False))


def first_line(error: Exception) -> str:
    """What an error of TensorFlow says, without the nodes of the graph."""
    return _NODES.sub("", str(error).strip().split("\n")[0])
