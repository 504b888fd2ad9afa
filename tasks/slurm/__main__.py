"""Jobs without a flow: `gated dry-run | try | jobs | cancel | sweep | prune`, also as `python -m tasks.slurm …`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from study_core.files import held_bytes
from tasks.slurm import listing
from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import Profile, load_profile
from tasks.slurm.specs import Job
from tasks.terminal import Json, call, group, size


def _root() -> Path:
    return Path(os.environ.get("GATED_ARTIFACTS", "artifacts")) / "jobs"


Root = Annotated[
    Path, typer.Option("--root", default_factory=_root, show_default="artifacts/jobs", help="The journal.")
]
ProfileName = Annotated[str, typer.Option("--profile", help="A file of slurm_templates/, by its name.")]
AnyProfile = Annotated[
    str, typer.Option("--profile", help="A file of slurm_templates/, by its name. Empty: as each job was sent.")
]
Stage = Annotated[
    str,
    typer.Option("--stage", help="Whose time, memory and GPUs: gpu, cpu, or a stage such as train or denoise/train."),
]


def dry_run(
    root: Root,
    profile: ProfileName = "slurm-dev",
    stage: Stage = "gpu",
    name: Annotated[str, typer.Option(help="Readable name of the job.")] = "example",
    function: Annotated[str, typer.Option(help="package.module:function; names the snapshot.")] = "tasks:job",
    array: Annotated[int | None, typer.Option(help="So many jobs in one array.")] = None,
    as_json: Json = False,
) -> None:
    """Print the exact text that sbatch would be given; nothing is submitted.

    A stage that several tenants have is printed once for each.
    """
    dispatcher = Dispatcher(load_profile(profile), root)
    names = [name] if array is None else [f"{name}-{n:02d}" for n in range(array)]
    scripts = {}
    for full in dispatcher.profile.named(stage):
        specs = [JobSpec(one, function, {"name": one}, stage=full) for one in names]
        scripts[full] = dispatcher.dry_run(specs, array=array is not None)
    if as_json:
        print(json.dumps({"profile": profile, "stage": stage, "script": "".join(scripts.values()), "scripts": scripts}))
        return
    for full, text in scripts.items():
        print(text if len(scripts) == 1 else f"# stage {full}\n{text}")


def try_(root: Root, profile: ProfileName = "slurm-dev", stage: Stage = "gpu", as_json: Json = False) -> int:
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


Ended = Annotated[float, typer.Option("--ended", help="Instead: those that ended in the last so many days, summed.")]


def jobs(root: Root, days: Ended = 0.0, as_json: Json = False) -> None:
    """List the live jobs: where each stands, what it waits for, when the site expects it to start, what it took so far.

    With --ended: how jobs ended, how long they waited and ran, GPU-hours, and energy where the GPUs count it.
    """
    journal = _journal(root)
    if days <= 0:
        rows, columns, below = listing.live(journal), listing.LIVE, {}
    else:
        rows, columns = listing.ended(journal, time.time() - 86400.0 * days), listing.ENDED
        below = listing.total(rows)
    if as_json:
        print(json.dumps({"jobs": rows, "total": below} if days > 0 else rows))
        return
    lines = [*rows, *([{"name": f"{len(rows)} jobs", **below}] if below else [])]
    if sys.stdout.isatty():
        table = Table(*columns, title=f"{len(rows)} {'ended' if days > 0 else 'live'} jobs")
        for row in lines:
            table.add_row(*(_cell(row.get(name)) for name in columns))
        Console(markup=False).print(table)
        return
    print("\t".join(columns))
    for row in lines:
        print("\t".join(_cell(row.get(name)) for name in columns))


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


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
    held = held_bytes(journal.prunable(days * 86400.0))
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
