"""The manners of every command here: an error is one line with its next step, and `-v` shows its trace.

Commands are typer functions that stand beside the work they start; a `Door` names one, and is opened only when it is
called: listing thirty of them imports none.

Exit codes: 0 done · 1 refused, or something was found · 2 input that cannot be used · 3 ended without a verdict ·
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

REFUSED, BAD_INPUT, LOST, STOPPED = 1, 2, 3, 130
Json = Annotated[bool, typer.Option("--json", help="The result as JSON, alone on standard output.")]


class Door(TyperCommand):
    """A command that is not imported yet: its name, `package.module:function`, and what it does in a line."""

    def __init__(self, name: str, where: str, help: str) -> None:
        super().__init__(name=name, help=help)
        self.where = where

    def open(self) -> Any:
        """The command itself, with the options of its function."""
        module, _, function = self.where.partition(":")
        found = getattr(importlib.import_module(module), function)
        return found if isinstance(found, TyperCommand | TyperGroup) else single(found, str(self.name))


class Doors(TyperGroup):
    """A group of doors; the one that is called is opened."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.open() if isinstance(command, Door) else command, rest


def single(function: Callable[..., object], name: str = "", settings: Mapping[str, Any] | None = None) -> Any:
    """A function as a command; `settings` of its parser."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name or function.__name__, context_settings=dict(settings or {}))(function)
    return typer.main.get_command(app)


def group(about: str, functions: Mapping[str, Callable[..., object]]) -> Any:
    """Functions as the commands below one word."""
    app = typer.Typer(help=about, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    for name, function in functions.items():
        app.command(name)(function)
    return typer.main.get_command(app)


def call(command: Any, prog: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command with what was typed and return its exit code. `-v` may stand anywhere on the line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = any(word in ("-v", "--verbose") for word in given)
    given = [word for word in given if word not in ("-v", "--verbose")]
    names = command.commands if isinstance(command, TyperGroup) else {}
    line = f"{prog} {given[0]}" if given and given[0] in names else prog
    return _mannerly(lambda: command.main(given, prog_name=prog, standalone_mode=False), verbose, line)


def _mannerly(work: Callable[[], Any], verbose: bool, line: str) -> int:
    try:
        return int(work() or 0)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return STOPPED
    except (ValueError, OSError, TyperException) as error:
        if verbose:
            traceback.print_exc()
        typed = isinstance(error, TyperException)
        told = f"{error.format_message().rstrip('.')}; see {line} --help" if typed else str(error)  # type: ignore[union-attr]
        print(f"error: {' '.join(told.split())}", file=sys.stderr)
        return BAD_INPUT


def printable(text: str) -> str:
    """The text on one line: what would end the line, or move a terminal's cursor, stands there as its escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def print_findings(findings: Mapping[str, Sequence[str]], notes: Mapping[str, Sequence[str]] | None = None) -> None:
    """For each name `untouched`, or how many findings and each on a line of its own; then what was not checked."""
    for name, problems in findings.items():
        found = f"{len(problems)} finding{'s' if len(problems) > 1 else ''}" if problems else "untouched"
        print(f"{printable(name)}: {found}")
        for line in [*problems, *(f"note: {note}" for note in (notes or {}).get(name, ()))]:
            print(f"  {printable(line)}")


def size(count: float) -> str:
    """Bytes for people: `812 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def existing(path: Path, remedy: str) -> Path:
    """The path, where there is something; ValueError with the next step where there is nothing."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; {remedy}")
    return path


def near(path: Path) -> str:
    """A path as it is typed from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors like any other, instead of a usage text and an exit."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def run(
    parser: Parser, work: Callable[[argparse.Namespace], int | None], arguments: Sequence[str] | None = None
) -> int:
    """`call` for a command of argparse."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = any(word in ("-v", "--verbose") for word in given)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the whole trace of an error")
    kept = [word for word in given if word not in ("-v", "--verbose")]
    return _mannerly(lambda: work(parser.parse_args(kept)), verbose, parser.prog)
