"""What every core's commands share: a local job's surroundings, how a result is said, how a command ends.

Exit codes: 0 done · 2 bad input · 3 a gate refused · 130 stopped. No job reaches this (it needs typer and rich).
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer.exceptions import TyperException

from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted

GATE_FAILED, BAD_INPUT, STOPPED = 3, 2, 130
quiet = not sys.stderr.isatty()
console = Console(stderr=True, quiet=quiet)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


@dataclass
class LocalContext:
    """A job's surroundings on this machine: a folder, no remedies, a progress line, and Ctrl-C or SIGTERM as a stop."""

    folder: Path
    told: Any = None
    adjustments: Mapping[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def should_stop(self) -> bool:
        return self.stopped

    def progress(self, **fields: Any) -> None:
        if self.told is not None:
            self.told(fields)


@contextmanager
def shown(title: str, folder: Path) -> Iterator[LocalContext]:
    """A job's context whose progress is a bar on a terminal, and silent elsewhere.

    The first SIGINT or SIGTERM asks the job to save and stop; a second one ends it at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = LocalContext(folder)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: object) -> None:
        context.stopped = True
        for one, handler in before.items():
            signal.signal(one, handler)

    with Progress(console=console, disable=quiet) as bar:
        task = bar.add_task(title, total=None)
        context.told = lambda told: bar.update(task, completed=told.get("done"), total=told.get("total"))
        for number in before:
            signal.signal(number, stop)
        try:
            yield context
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def say(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """A command's result: JSON, or a text for people."""
    print(json.dumps(result, default=str) if as_json else text)


def run(
    app: typer.Typer,
    arguments: list[str] | None,
    name: str,
    *,
    words: Callable[[list[str]], list[str]] = list,
    extra: tuple[str, tuple[str, ...]] = ("", ()),
) -> int:
    """Run a command; what went wrong is one line on standard error, with `-v` anywhere the whole trace before it.

    Args:
        words: the command line as typer shall read it.
        extra: an extra of the package, and modules that only it brings.
    """
    given = sys.argv[1:] if arguments is None else arguments
    verbose = any(word in ("-v", "--verbose") for word in given)
    given = [word for word in given if word not in ("-v", "--verbose")]
    try:
        return int(app(words(given) or ["--help"], prog_name=name, standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt, TrainingInterrupted) as error:
        print(f"stopped; the same command goes on from what was kept ({error})".replace(" ()", ""), file=sys.stderr)
        return STOPPED
    except (BadInput, NonFiniteLoss, OSError, TyperException) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {' '.join(_told(error, app, name, given).split())}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if error.name not in extra[1]:
            raise
        print(f"error: {error.name} is not installed; pip install -e '.[{extra[0]}]'", file=sys.stderr)
    return BAD_INPUT


def _told(error: Exception, app: typer.Typer, name: str, given: list[str]) -> str:
    """What is wrong, and the next step."""
    if isinstance(error, TyperException):
        commands = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
        command = f" {given[0]}" if given and given[0] in commands else ""
        return f"{error.format_message().rstrip('.')}; see {name}{command} --help"
    return f"{error}; check the path, its rights and the disk" if isinstance(error, OSError) else str(error)
