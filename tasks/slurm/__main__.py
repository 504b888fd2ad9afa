"""Jobs without a flow: `gated dry-run | try | jobs | cancel | sweep | prune`, also as `python -m tasks.slurm …`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import Profile, load_profile
from tasks.slurm.specs import Job
from tasks.terminal import Json, call, group, size

COLUMNS = ("name", "attempt", "slurm_id", "folder")


def _root() -> Path:
    return Path(os.environ.get("GATED_ARTIFACTS", "artifacts")) / "jobs"


Root = Annotated[
    Path, typer.Option("--root", default_factory=_root, show_default="artifacts/jobs", help="The journal.")
]
ProfileName = Annotated[str, typer.Option("--profile", help="A file of slurm_templates/, by its name.")]
AnyProfile = Annotated[
    str, typer.Option("--profile", help="A file of slurm_templates/, by its name. Empty: as each job was sent.")
]
Stage = Annotated[str, typer.Option("--stage", help="Whose time, memory and GPUs: train, denoise, evaluate …")]


def dry_run(
    root: Root,
    profile: ProfileName = "slurm-dev",
    stage: Stage = "train",
    name: Annotated[str, typer.Option(help="Readable name of the job.")] = "example",
    function: Annotated[str, typer.Option(help="package.module:function; names the snapshot.")] = "tasks:job",
    array: Annotated[int | None, typer.Option(help="So many jobs in one array.")] = None,
    as_json: Json = False,
) -> None:
    """Print the exact text that sbatch would be given; nothing is submitted."""
    dispatcher = Dispatcher(load_profile(profile), root)
    names = [name] if array is None else [f"{name}-{n:02d}" for n in range(array)]
    specs = [JobSpec(one, function, {"name": one}, stage=stage) for one in names]
    text = dispatcher.dry_run(specs, array=array is not None)
    print(json.dumps({"profile": profile, "stage": stage, "script": text}) if as_json else text)


def try_(root: Root, profile: ProfileName = "slurm-dev", stage: Stage = "train", as_json: Json = False) -> int:
    """Run one job that only looks around: does a new profile work here? It says its node, GPUs and Python.

    Exit code 1 when the job ended without a result.
    """
    aside = sys.stderr if as_json else sys.stdout

    def say(event: dict[str, Any]) -> None:
        told = {key: event[key] for key in ("slurm_id", "cause", "action", "text") if event.get(key)}
        print(f"{event['event']} {event['job']} {told or ''}".rstrip(), file=aside)

    dispatcher = Dispatcher(load_profile(profile), root, events=say)
    submitted = dispatcher.submit([JobSpec("try", "tasks.slurm.probe:probe", stage=stage)], fresh=True)
    (outcome,) = dispatcher.wait(submitted, on_log=lambda job, text: print(text, file=aside))
    if outcome.result or as_json:
        told = outcome.result or {"cause": outcome.cause, "message": outcome.message}
        print(json.dumps(told, indent=None if as_json else 2))
    else:
        print(f"{outcome.cause}: {outcome.message}")
    return 0 if outcome.state == "done" else 1


def jobs(root: Root, as_json: Json = False) -> None:
    """List the live jobs: name, attempt, Slurm id, folder."""
    journal = _journal(root)
    rows = []
    for entry in journal.live():
        token = entry.attempt.token
        submission = journal.submission(token) if token else None
        base = submission.slurm_id() if submission else None
        where = submission.member_id(entry.attempt.index, base) if submission and base else None
        rows.append((entry.spec["name"], entry.attempt.number, where, str(journal.folder(entry.key))))
    if as_json:
        print(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows]))
    elif sys.stdout.isatty():
        table = Table(*COLUMNS, title=f"{len(rows)} live jobs")
        for row in rows:
            table.add_row(*(str(value or "not in the queue") for value in row))
        Console(markup=False).print(table)
    else:
        print("\t".join(COLUMNS))
        for name, attempt, where, folder in rows:
            print(f"{name}\tattempt {attempt}\t{where or 'not in the queue'}\t{folder}")


def cancel(
    root: Root,
    names: Annotated[list[str] | None, typer.Argument(help="Names of jobs; none: every live job.")] = None,
    profile: AnyProfile = "",
    as_json: Json = False,
) -> None:
    """Cancel live jobs by name, or all of them. What a training saved stays; the same run goes on from there."""
    journal = _journal(root)
    found: list[Job] = []
    for site, live in _sites(journal, profile):
        wanted = [job for job in live if not names or job.name in names]
        Dispatcher(site, root).cancel(wanted)
        found += wanted
    _cancelled(found, as_json)


def sweep(
    root: Root,
    profile: AnyProfile = "",
    grace: Annotated[float, typer.Option(help="Seconds that a flow must be dead.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Cancel live jobs whose flow has died; detached ones go on."""
    journal = _journal(root)
    _cancelled(
        [job for site, _ in _sites(journal, profile) for job in Dispatcher(site, root).sweep(grace_s=grace)], as_json
    )


def _sites(journal: Journal, profile: str) -> Iterator[tuple[Profile, list[Job]]]:
    """The profile that was named, or one for each kind of executor with live jobs; with the jobs that are its own."""
    live = journal.live()
    if profile:
        yield load_profile(profile), [journal.job(entry) for entry in live]
        return
    for executor, name in {entry.executor: entry.profile for entry in live}.items():
        yield load_profile(name), [journal.job(entry) for entry in live if entry.executor == executor]


def _cancelled(found: Sequence[Job], as_json: bool) -> None:
    names = [job.name for job in found]
    print(json.dumps({"cancelled": names}) if as_json else f"cancelled {len(names)}: {', '.join(names)}".rstrip(": "))


def prune(
    root: Root,
    days: Annotated[float, typer.Option(help="Ended longer ago than this.")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it nothing is touched.")] = False,
    as_json: Json = False,
) -> None:
    """Say what jobs that ended long ago hold, with their logs and checkpoints, largest first; with --yes, remove it.

    Live jobs, shipped models, reports and audit logs are never touched. A run that is repeated after its jobs were
    removed computes them again.
    """
    journal = _journal(root)
    held = _held(journal.prunable(days * 86400.0))
    if yes:
        journal.prune(days * 86400.0)
    total = sum(held.values())
    rows = sorted(held.items(), key=lambda row: -row[1])
    if as_json:
        folders = [{"folder": str(path), "bytes": count} for path, count in rows]
        print(json.dumps({"removed": yes, "bytes": total, "folders": folders}))
        return
    if rows:
        print("size\tfolder")
    for path, count in rows:
        print(f"{size(count)}\t{path}")
    if yes or not rows:
        print(f"removed {len(rows)} folders, {size(total)}")
    else:
        print(f"{len(rows)} folders, {size(total)}; nothing is removed yet: the same command with --yes does it")


def _held(folders: Sequence[Path]) -> dict[Path, int]:
    """Bytes that the disk gets back with each folder: a file that has another name elsewhere gives nothing back."""
    files = [(folder, path) for folder in folders for path in [folder, *folder.rglob("*")] if _is_file(path)]
    names: dict[int, int] = {}
    for _, path in files:
        names[path.stat().st_ino] = names.get(path.stat().st_ino, 0) + 1
    held, counted = dict.fromkeys(folders, 0), set()
    for folder, path in files:
        status = path.stat()
        if names[status.st_ino] == status.st_nlink and status.st_ino not in counted:
            counted.add(status.st_ino)
            held[folder] += status.st_blocks * 512
    return held


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _journal(root: Path) -> Journal:
    """The journal that is there: looking at jobs makes no folder."""
    if not (root / "root.json").exists():
        raise ValueError(f"{root}: no journal of jobs here; start from the project's root, or name it by --root")
    return Journal(root)


COMMANDS: dict[str, Callable[..., object]] = {
    "dry-run": dry_run,
    "try": try_,
    "jobs": jobs,
    "cancel": cancel,
    "sweep": sweep,
    "prune": prune,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 for input that cannot be used, 1 for a tried job that failed."""
    return call(group("Jobs without a flow.", COMMANDS), "python -m tasks.slurm", arguments)


if __name__ == "__main__":
    sys.exit(main())
