"""What every command shares: options, a study's places, a local job's surroundings, and how a command ends.

Exit codes: 0 done (shipped, where there are gates) · 2 bad input · 3 a gate refused · 130 stopped.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer.exceptions import TyperException

from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted

if TYPE_CHECKING:
    from concept_core.config import Config
    from concept_core.layout import Layout

GATE_FAILED, BAD_INPUT, STOPPED = 3, 2, 130
quiet = not sys.stderr.isatty()
console = Console(stderr=True, quiet=quiet)

ConfigOption = Annotated[Path, typer.Option("--config", help="The study's config.yaml.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Key of the model registry, or a model's folder. Default: the config's.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder of the study's results. Default: the config's.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DEFAULT_CONFIG = Path("data/concept/config.yaml")


@dataclass(frozen=True)
class Study:
    """A configuration and the folder of its results."""

    config: Config
    layout: Layout

    def local(self, device: str = "auto") -> Any:
        """Its jobs, one after another in this process (`concept_core.local.Study`)."""
        from concept_core import local

        return local.Study(
            self.config.plan,
            self.layout,
            self.config.paths.model_registry,
            device,
            tell=lambda line: console.print(line),
        )


def study(config: Path, model: str | None = None, out: Path | None = None) -> Study:
    """The study of a configuration. Raises BadInput where it cannot be read."""
    from concept_core.config import read_config
    from concept_core.layout import Layout

    if not config.exists() and config == Path("config.yaml"):
        config = DEFAULT_CONFIG  # the seed's own command lines name `config.yaml`
    read = read_config(config, model=model)
    return Study(read, Layout((out or read.paths.output).absolute()))


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


def run(app: typer.Typer, arguments: list[str] | None, name: str) -> int:
    """Run a command; what went wrong is one line on standard error, with `-v` the whole trace before it."""
    given = sys.argv[1:] if arguments is None else arguments
    verbose = any(word in ("-v", "--verbose") for word in given)
    given = [word for word in given if word not in ("-v", "--verbose")]
    try:
        return int(app(given or ["--help"], prog_name=name, standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt, TrainingInterrupted) as error:
        print(f"stopped; the same command goes on ({error})".replace(" ()", ""), file=sys.stderr)
        return STOPPED
    except (BadInput, NonFiniteLoss, OSError, TyperException) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {' '.join(_told(error, name).split())}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name not in ("transformers", "sklearn", "safetensors"):
            raise
        print(f"error: {error.name} is not installed; pip install -e '.[concept]'", file=sys.stderr)
        return BAD_INPUT


def _told(error: Exception, name: str) -> str:
    """What is wrong, and the next step."""
    if isinstance(error, TyperException):
        return f"{error.format_message().rstrip('.')}; see {name} --help"
    return f"{error}; check the path, its rights and the disk" if isinstance(error, OSError) else str(error)
