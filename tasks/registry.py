"""The registry by hand: python -m tasks.registry history | rollback REASON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tasks.promotion import PromotionRefused, history, rollback
from tasks.terminal import Parser, run


def _history(options: argparse.Namespace) -> None:
    """Every blessed model, oldest first, with the one in production."""
    rows = history()
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print("nothing was ever shipped")
    else:
        table = Table("blessing", "study", "score", "replaces", "", box=None)
        for row in rows:
            score = "missing" if row["score"] is None else f"{row['score']:.5g}"
            mark = "in production" if row["production"] else ""
            table.add_row(row["id"], row["study"], score, row["replaces"] or "nothing", mark)
        Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False).print(table)


def _rollback(options: argparse.Namespace) -> None:
    """Point production at the model that the current one replaced; the reason goes on record."""
    try:
        now = rollback(options.reason)
    except PromotionRefused as error:
        raise ValueError(error) from error
    print(json.dumps(now.model_dump(mode="json")) if options.json else f"in production: {now.id} ({now.model})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 where there is nothing to roll back to."""
    parser = Parser(prog="python -m tasks.registry", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("history", _history), ("rollback", _rollback)):
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function_to_call=function)
        command.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    commands.choices["rollback"].add_argument("reason", help="why, for the record")
    return run(parser, lambda options: options.function_to_call(options), arguments)


if __name__ == "__main__":
    sys.exit(main())
