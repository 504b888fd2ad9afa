"""`python -m ptycho_core`: the dose and overlap study on its own, without Prefect or Slurm.

Phases in order: design, generate, overlap, train, reconstruct, compare, summary; validate, check-loss and
promote-reference beside them. Exit codes: 0 done · 2 bad input · 3 a gate refused.
"""

from __future__ import annotations

import sys

import typer

from ptycho_core.cli import comparison, prepare, reconstruction, training
from ptycho_core.cli.common import plain_switches
from study_core.cli import run

app = typer.Typer(
    name="ptycho_core", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
for part in (prepare, training, reconstruction, comparison):
    app.add_typer(part.app)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what went wrong is one line on standard error, with `-v` anywhere the whole trace before it."""
    return run(app, arguments, "python -m ptycho_core", words=plain_switches)


if __name__ == "__main__":
    sys.exit(main())
