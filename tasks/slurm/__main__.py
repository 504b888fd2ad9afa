"""Jobs without a flow: python -m tasks.slurm dry-run | try | jobs | cancel | sweep | prune."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import BadProfile, load_profile, profile_names

ROOT = Path("artifacts/jobs")


def dry_run(options: argparse.Namespace) -> None:
    """Print the exact text that sbatch would be given."""
    dispatcher = Dispatcher(load_profile(options.profile), options.root)
    names = [options.name] if options.array is None else [f"{options.name}-{n:02d}" for n in range(options.array)]
    specs = [JobSpec(name, options.function, {"name": name}, stage=options.stage) for name in names]
    print(dispatcher.dry_run(specs, array=options.array is not None))


def try_(options: argparse.Namespace) -> int:
    """Run one job that only looks around: does a new profile work here?"""
    dispatcher = Dispatcher(load_profile(options.profile), options.root, events=_say)
    submitted = dispatcher.submit([JobSpec("try", "tasks.slurm.probe:probe", stage=options.stage)], fresh=True)
    (outcome,) = dispatcher.wait(submitted, on_log=lambda job, text: print(text))
    print(json.dumps(outcome.result, indent=2) if outcome.result else f"{outcome.cause}: {outcome.message}")
    return 0 if outcome.state == "done" else 1


def _say(event: dict[str, Any]) -> None:
    told = {key: event[key] for key in ("slurm_id", "cause", "action", "text") if event.get(key)}
    print(f"{event['event']} {event['job']} {told or ''}".rstrip())


def jobs(options: argparse.Namespace) -> None:
    """Print one line a live job: name, attempt, Slurm id, folder."""
    journal = Journal(options.root)
    for entry in journal.live():
        token = entry.attempt.token
        submission = journal.submission(token) if token else None
        base = submission.slurm_id() if submission else None
        where = submission.member_id(entry.attempt.index, base) if submission and base else "not in the queue"
        print(f"{entry.spec['name']}\tattempt {entry.attempt.number}\t{where}\t{journal.folder(entry.key)}")


def cancel(options: argparse.Namespace) -> None:
    """Cancel live jobs by name, or all of them."""
    dispatcher = Dispatcher(load_profile(options.profile), options.root)
    wanted = [job for job in map(dispatcher.journal.job, dispatcher.journal.live()) if _chosen(job.name, options.names)]
    dispatcher.cancel(wanted)
    print(f"cancelled {len(wanted)}: {', '.join(job.name for job in wanted)}".rstrip(": "))


def _chosen(name: str, names: Sequence[str]) -> bool:
    return not names or name in names


def sweep(options: argparse.Namespace) -> None:
    """Cancel live jobs whose flow has died."""
    found = Dispatcher(load_profile(options.profile), options.root).sweep(grace_s=options.grace)
    print(f"cancelled {len(found)}: {', '.join(job.name for job in found)}".rstrip(": "))


def prune(options: argparse.Namespace) -> None:
    """Remove jobs that ended long ago, with their logs and checkpoints."""
    print(f"removed {len(Journal(options.root).prune(options.days * 86400.0))} folders")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.slurm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (dry_run, try_, jobs, cancel, sweep, prune):
        name = function.__name__.strip("_").replace("_", "-")
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function_to_call=function)
        command.add_argument("--root", type=Path, default=ROOT, help="folder of the journal (default: %(default)s)")
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
    options = _parser().parse_args(arguments)
    try:
        return options.function_to_call(options) or 0
    except (BadProfile, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
