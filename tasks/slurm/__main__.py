"""Jobs without a flow: python -m tasks.slurm dry-run | try | jobs | cancel | sweep | prune."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import load_profile, profile_names
from tasks.slurm.specs import Job
from tasks.terminal import Parser, run

ROOT = Path("artifacts/jobs")
COLUMNS = ("name", "attempt", "slurm_id", "folder")


def dry_run(options: argparse.Namespace) -> None:
    """Print the exact text that sbatch would be given."""
    dispatcher = Dispatcher(load_profile(options.profile), options.root)
    names = [options.name] if options.array is None else [f"{options.name}-{n:02d}" for n in range(options.array)]
    specs = [JobSpec(name, options.function, {"name": name}, stage=options.stage) for name in names]
    print(dispatcher.dry_run(specs, array=options.array is not None))


def try_(options: argparse.Namespace) -> int:
    """Run one job that only looks around: does a new profile work here?"""
    aside = sys.stderr if options.json else sys.stdout

    def say(event: dict[str, Any]) -> None:
        told = {key: event[key] for key in ("slurm_id", "cause", "action", "text") if event.get(key)}
        print(f"{event['event']} {event['job']} {told or ''}".rstrip(), file=aside)

    dispatcher = Dispatcher(load_profile(options.profile), options.root, events=say)
    submitted = dispatcher.submit([JobSpec("try", "tasks.slurm.probe:probe", stage=options.stage)], fresh=True)
    (outcome,) = dispatcher.wait(submitted, on_log=lambda job, text: print(text, file=aside))
    if outcome.result or options.json:
        told = outcome.result or {"cause": outcome.cause, "message": outcome.message}
        print(json.dumps(told, indent=None if options.json else 2))
    else:
        print(f"{outcome.cause}: {outcome.message}")
    return 0 if outcome.state == "done" else 1


def jobs(options: argparse.Namespace) -> None:
    """List the live jobs: name, attempt, Slurm id, folder."""
    journal = _journal(options)
    rows = []
    for entry in journal.live():
        token = entry.attempt.token
        submission = journal.submission(token) if token else None
        base = submission.slurm_id() if submission else None
        where = submission.member_id(entry.attempt.index, base) if submission and base else None
        rows.append((entry.spec["name"], entry.attempt.number, where, str(journal.folder(entry.key))))
    if options.json:
        print(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows]))
    elif sys.stdout.isatty():
        table = Table(*COLUMNS, title=f"{len(rows)} live jobs")
        for row in rows:
            table.add_row(*(str(value or "not in the queue") for value in row))
        Console(markup=False).print(table)
    else:
        for name, attempt, where, folder in rows:
            print(f"{name}\tattempt {attempt}\t{where or 'not in the queue'}\t{folder}")


def cancel(options: argparse.Namespace) -> None:
    """Cancel live jobs by name, or all of them."""
    profile = load_profile(options.profile)
    journal = _journal(options)
    wanted = [job for job in map(journal.job, journal.live()) if not options.names or job.name in options.names]
    Dispatcher(profile, options.root).cancel(wanted)
    _cancelled(wanted, options)


def sweep(options: argparse.Namespace) -> None:
    """Cancel live jobs whose flow has died."""
    profile = load_profile(options.profile)
    _journal(options)
    _cancelled(Dispatcher(profile, options.root).sweep(grace_s=options.grace), options)


def _cancelled(found: Sequence[Job], options: argparse.Namespace) -> None:
    names = [job.name for job in found]
    print(
        json.dumps({"cancelled": names}) if options.json else f"cancelled {len(names)}: {', '.join(names)}".rstrip(": ")
    )


def prune(options: argparse.Namespace) -> None:
    """Remove jobs that ended long ago, with their logs and checkpoints."""
    removed = [str(folder) for folder in _journal(options).prune(options.days * 86400.0)]
    print(json.dumps({"removed": removed}) if options.json else f"removed {len(removed)} folders")


def _journal(options: argparse.Namespace) -> Journal:
    """The journal that is there: looking at jobs makes no folder."""
    if not (options.root / "root.json").exists():
        raise ValueError(
            f"{options.root}: no journal of jobs here; start from the project's root, or name it by --root"
        )
    return Journal(options.root)


def _parser() -> Parser:
    parser = Parser(prog="python -m tasks.slurm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (dry_run, try_, jobs, cancel, sweep, prune):
        name = function.__name__.strip("_").replace("_", "-")
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function_to_call=function)
        command.add_argument("--root", type=Path, default=ROOT, help="folder of the journal (default: %(default)s)")
        if function is not dry_run:
            command.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        if function in (dry_run, try_, cancel, sweep):
            command.add_argument("--profile", default="slurm-dev", help=f"one of {', '.join(profile_names())}")
        if function in (dry_run, try_):
            command.add_argument("--stage", default="train")
        if function is dry_run:
            command.add_argument("--name", default="example", help="readable name of the job")
            command.add_argument("--function", default="tasks:job", help="package.module:function (names the snapshot)")
            command.add_argument("--array", type=int, help="so many jobs in one array")
        elif function is cancel:
            command.add_argument("names", nargs="*", help="default: every live job")
        elif function is sweep:
            command.add_argument("--grace", type=float, default=60.0, help="seconds a flow must be dead")
        elif function is prune:
            command.add_argument("--days", type=float, default=30.0)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 for input that cannot be used, 1 for a tried job that failed."""
    return run(_parser(), lambda options: options.function_to_call(options), arguments)


if __name__ == "__main__":
    sys.exit(main())
