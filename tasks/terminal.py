"""The manners of every `python -m …` here: an error is one line with its next step, and `-v` shows its trace.

Exit codes: 0 done, 2 input that cannot be used, 130 stopped by Ctrl-C; others are a command's own.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

BAD_INPUT, STOPPED = 2, 130


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors like any other, instead of a usage text and an exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def run(
    parser: Parser, work: Callable[[argparse.Namespace], int | None], arguments: Sequence[str] | None = None
) -> int:
    """Parse, call `work` with what was given, and return the exit code. `-v` may stand anywhere on the line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = any(word in ("-v", "--verbose") for word in given)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the whole trace of an error")
    try:
        return work(parser.parse_args([word for word in given if word not in ("-v", "--verbose")])) or 0
    except (ValueError, OSError) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
