"""`gated prune`: room on the disk. What old jobs hold, or with `--runs` what old runs hold; removed with `--yes`.

A run that is removed stays on record: its row and the last record of its log in the log of `artifacts/pruned/`, and its
head told elsewhere as removed on purpose, so that `gated verify` misses nothing. Nothing goes that something kept
refers to: what was ever shipped, runs that are open or young, and whatever their records name.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from study_core.files import held_bytes, make_folder, sync_folder
from tasks import anchor, audit_log, blessings
from tasks.audit_log import LOG, AuditLog
from tasks.house_chain import CHAIN, PRUNED
from tasks.provenance import artifacts_root
from tasks.runs import OPEN, RunFacts, all_runs
from tasks.slurm.__main__ import Root
from tasks.slurm.__main__ import prune as prune_jobs
from tasks.terminal import Json, printable, size

GOING = ".going"  # a run that is just being removed
RECORDS = ("plan.json", "inputs.json", "verdict.json")  # in which, as in its log, a run names others


@dataclass(frozen=True)
class Held:
    """A run's folder, what the disk gets back without it, its age, and why it stays; empty: it may go.

    `log`: SHA-256 of its log's first record, which a copy shares; empty where it cannot be read.
    """

    run: RunFacts
    log: str
    bytes: int
    days: float
    kept: str

    @property
    def state(self) -> str:
        """How the run ended; `copy` for one of a refused run."""
        return "copy" if _is_copy(self.run) else self.run.state

    def row(self) -> dict[str, object]:
        return {"folder": str(self.run.folder), "bytes": self.bytes, "days": round(self.days, 1),
                "state": self.state, "kept": self.kept}  # fmt: skip


def prune(
    root: Root,
    runs: Annotated[bool, typer.Option("--runs", help="Runs instead of jobs, verdict and bundle.")] = False,
    days: Annotated[float, typer.Option(help="Ended longer ago than this.")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it nothing is touched.")] = False,
    as_json: Json = False,
) -> None:
    """Say what jobs, or with --runs runs, that ended long ago hold, largest first; with --yes, remove it.

    Jobs: live ones, shipped models, reports and audit logs are never touched; a run that is repeated after its jobs
    were removed computes them again. Runs: kept are those that shipped, those that are open, and those that a kept
    run or the registry names; one that goes stays on record in artifacts/pruned/ and for gated verify.
    """
    if not runs:
        prune_jobs(root, days, yes, as_json)
        return
    found = held(days)
    going = [one for one in found if not one.kept]
    logs = Counter(one.log for one in found)
    for one in going if yes else ():
        logs[one.log] -= 1
        remove(one, copied=logs[one.log] > 0)
    if yes:
        _clear()
    total = sum(one.bytes for one in going)
    if as_json:
        print(json.dumps({"removed": yes, "bytes": total, "runs": [one.row() for one in found]}))
        return
    if going:
        print("size\tdays\tstate\tfolder")
    for one in going:
        print(f"{size(one.bytes)}\t{one.days:.0f}\t{one.state}\t{printable(str(one.run.folder))}")
    for why, count in Counter(one.kept for one in found if one.kept).items():
        print(f"kept: {count}, {why}")
    if yes or not going:
        print(f"removed {len(going)} runs, {size(total)}")
    else:
        print(f"{len(going)} runs, {size(total)}; nothing is removed yet: the same command with --yes does it")


def held(days: float) -> list[Held]:
    """Every run below the artifacts, copies of refused ones included, the largest first, with why it is kept."""
    runs = [*all_runs(), *_copies()]
    ages = {run.folder: _age(run) for run in runs}
    records = {run.folder: audit_log.readable(run.folder / LOG) for run in runs}
    kept = {run.folder: why for run in runs if (why := _own_reason(run, records[run.folder], ages[run.folder], days))}
    texts = {run.folder: _told(run.folder, records[run.folder]) for run in runs}
    registry = _text(
        path for root in map(blessings.registry_root, blessings.registries()) for path in blessings.files(root)
    )
    naming = [registry, *(texts[folder] for folder in kept)]
    while naming:  # what a kept run names is kept, and what that one names
        text = naming.pop()
        for run in runs:
            if run.folder not in kept and any(name in text for name in _names(run)):
                kept[run.folder] = "named by the registry or by a run that is kept"
                naming.append(texts[run.folder])
    sizes = held_bytes([run.folder for run in runs])
    logs = {folder: told[0]["sha256"] if told else "" for folder, told in records.items()}
    found = [Held(run, logs[run.folder], sizes[run.folder], ages[run.folder], kept.get(run.folder, "")) for run in runs]
    return sorted(found, key=lambda one: -one.bytes)


def remove(one: Held, *, copied: bool = False) -> None:
    """Put a run on record as pruned, tell so elsewhere, and take its folder away. BadInput where it cannot be told.

    `copied`: the same log lies somewhere else too, so the log itself is not told as removed.
    """
    folder, records = one.run.folder, audit_log.readable(one.run.folder / LOG)
    place = artifacts_root() / PRUNED
    record = AuditLog(place).append(
        PRUNED, f"Removed {folder.relative_to(artifacts_root())}", run=one.run.row(), bytes=one.bytes,
        log=one.log, seq=records[-1]["seq"], last=records[-1]["sha256"],
    )  # fmt: skip
    anchor.tell_head(place, record)
    if not copied:
        anchor.tell(replace(anchor.head_of(folder, records[-1]), kind=anchor.REMOVED))
    aside = make_folder(place / GOING) / f"{folder.parent.name}-{folder.name}"
    folder.rename(aside)
    sync_folder(folder.parent)
    shutil.rmtree(aside)


def _clear() -> None:
    """What a prune that was killed had put aside."""
    shutil.rmtree(artifacts_root() / PRUNED / GOING, ignore_errors=True)


def _copies() -> list[RunFacts]:
    """Copies of refused runs, which lie beside the studies."""
    logs = sorted(artifacts_root().glob(f"*/{LOG}"))
    return [RunFacts(log.parent) for log in logs if log.parent.name != PRUNED]


def _own_reason(run: RunFacts, records: Sequence[Mapping[str, Any]], age: float, days: float) -> str:
    if run.state == OPEN and not _is_copy(run):  # a refused run is copied before its end
        return "open: it has no end"
    if not records:
        return "its log cannot be read"
    return f"ended in the last {days:g} days" if age < days else ""


def _is_copy(run: RunFacts) -> bool:
    return run.folder.parent == artifacts_root()


def _age(run: RunFacts) -> float:
    """Days since its last event."""
    try:
        return (time.time() - datetime.fromisoformat(str(run.events[-1]["time"])).timestamp()) / 86400.0
    except (IndexError, KeyError, ValueError):
        return 0.0


def _names(run: RunFacts) -> list[str]:
    """How other records name a run: by its folder, or by its flow run."""
    opened = run.events[0].get("data") if run.events else None
    flow_run = str(opened.get("run") or "") if isinstance(opened, dict) else ""
    return [run.name, *([flow_run] if flow_run.strip("0-") else [])]


def _told(folder: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """Where a run may name others. The house's chain is none: in a log's first record each names the one before it."""
    first, _, others = _text([folder / LOG]).partition("\n")
    if records and CHAIN in records[0]["data"]:
        first = json.dumps({**records[0]["data"], CHAIN: None}, ensure_ascii=False)
    return "\n".join([_text(folder / name for name in RECORDS), first, others])


def _text(paths: Iterable[Path]) -> str:
    return "\n".join(path.read_text("utf-8", "replace") for path in paths if path.exists())
