"""Options of Beam at the end of a command line."""

import argparse
import logging
from collections.abc import Sequence


def check_beam_flags(parser: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    """Refuses command-line words that are neither ours nor Beam's. Imports Beam, which takes seconds.

    Args:
        parser: The command's, which has left these words over.
        flags: The words.
    """
    # Beam warns about Google Cloud clients on import, wanted or not.
    logging.disable(logging.WARNING)
    from beam.local import unknown_flags

    logging.disable(logging.NOTSET)
    if unknown := unknown_flags(flags):
        parser.error(
            f"unrecognized arguments: {' '.join(unknown)} (neither ours nor a pipeline option of Beam)"
        )
