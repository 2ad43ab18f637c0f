"""Bearer tokens: who may send requests."""

import hmac
from pathlib import Path

from serving.server.watched_file import WatchedFile
from tfrs_mmse.cli import CommandError

_MIN_LENGTH = 16  # characters


class Tokens:
    """The tokens of a file, of which a request must bring one as `Authorization: Bearer TOKEN`."""

    REFUSAL = "send a valid token as `Authorization: Bearer TOKEN`"

    def __init__(self, path: Path, *, seconds: float = 1.0) -> None:
        """Reads the tokens.

        Args:
            path: One token a line, so that a new one can be handed out before the old one is taken away.
            seconds: Between two looks at the file, which is read again when it changes.

        Raises:
            CommandError: the file cannot be read, holds no token, or one that is easily guessed.
        """
        self._file = WatchedFile(path, read_tokens, seconds=seconds)

    def accept(self, authorization: str) -> bool:
        """Whether the value of an `Authorization` header holds a token; takes as long for each wrong one."""
        scheme, _, token = authorization.partition(" ")
        sent = token.strip().encode(errors="replace")
        matches = [hmac.compare_digest(sent, token) for token in self._file.content]
        return scheme.lower() == "bearer" and any(matches)


def read_tokens(path: Path) -> list[bytes]:
    """The tokens of a file.

    Raises:
        CommandError: it cannot be read, holds no token, or one that is easily guessed.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as e:
        raise CommandError(
            f"--auth_token_file {path} cannot be read ({type(e).__name__}): give a text file, one token a line"
        ) from None
    if not lines or min(map(len, lines)) < _MIN_LENGTH:
        raise CommandError(
            f"--auth_token_file {path} must hold tokens of at least {_MIN_LENGTH} characters, one a line"
        )
    return [line.encode() for line in lines]
