"""What `gated jobs` shows: where each live job stands and what it waits for; what ended ones took, with the sum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.slurm import accounting, files
from tasks.slurm.dispatcher import Dispatcher
from tasks.slurm.entries import Entry
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import BadProfile, Profile, load_profile
from tasks.slurm.scheduler import View
from tasks.slurm.states import Row, Verdict, meaning
from tasks.slurm.waiting import advice

LIVE: tuple[str, ...] = (
    "name",
    "attempt",
    "slurm_id",
    "state",
    "why",
    "starts",
    "waited_s",
    "elapsed_s",
    "gpu_hours",
    "folder",
)
ENDED: tuple[str, ...] = (
    "name",
    "state",
    "cause",
    "queue_wait_s",
    "elapsed_s",
    "gpu_hours",
    "gpu_energy_wh",
    "slurm_ids",
    "folder",
)
SUMMED = ("queue_wait_s", "elapsed_s", "gpu_hours", "gpu_energy_wh")


def live(
    journal: Journal,
    clock: Callable[[], float] = time.time,
    door: Callable[[Profile], Dispatcher] | None = None,
) -> list[dict[str, Any]]:
    """A row a live job; state, reason and the site's own estimate of its start come from one look at the queue.

    A queue that cannot be asked leaves these empty: what the journal and the nodes wrote is there all the same.
    """
    entries = list(journal.live())
    views = {}
    for executor, name in {entry.executor: entry.profile for entry in entries}.items():
        views[executor] = _view(journal, name, [one for one in entries if one.executor == executor], door)
    return [_live_row(journal, entry, views[entry.executor], clock()) for entry in entries]


def _view(
    journal: Journal, name: str, entries: Iterable[Entry], door: Callable[[Profile], Dispatcher] | None
) -> View | None:
    try:
        profile = load_profile(name)
    except BadProfile:  # renamed since
        return None
    dispatcher = door(profile) if door else Dispatcher(profile, journal.root)
    placed = {one.attempt.token: journal.submission(one.attempt.token) for one in entries if one.attempt.token}
    return dispatcher.scheduler.view(placed.values())


def _live_row(journal: Journal, entry: Entry, view: View | None, now: float) -> dict[str, Any]:
    submission = journal.submission(entry.attempt.token) if entry.attempt.token else None
    base = submission.slurm_id() if submission else None
    slurm_id = submission.member_id(entry.attempt.index, base) if submission and base else None
    row = view.rows.get(slurm_id) if view and slurm_id else None
    took = _took(journal, entry)
    waits = row is not None and meaning(row.state).verdict is Verdict.WAITING
    begun = took["queue_wait_s"]
    return {
        "name": entry.spec["name"],
        "attempt": entry.attempt.number,
        "slurm_id": slurm_id,
        "state": row.state if row else "HELD" if entry.attempt.held_until > now else "WAITING" if not base else None,
        "why": _why(entry, row) if waits or row is None else "",
        "starts": _clock_time(row.started if row else None),  # of a job that waits: what the site expects
        "waited_s": begun if begun is not None else round(now - entry.round()[0].created, 1),
        "elapsed_s": took["elapsed_s"],
        "gpu_hours": took["gpu_hours"],
        "folder": str(journal.folder(entry.key)),
    }


def _why(entry: Entry, row: Row | None) -> str:
    """The site's reason, and what has to change where it never ends by itself."""
    if row is None:
        return entry.attempt.said.strip().replace("\n", " / ")
    text = advice(row.reason)
    return f"{row.reason}: {text}" if text else row.reason


def _clock_time(moment: float | None) -> str | None:
    return datetime.fromtimestamp(moment).isoformat(sep=" ", timespec="minutes") if moment else None


def _took(journal: Journal, entry: Entry) -> dict[str, Any]:
    """The accounting's row; a profile that is gone has no GPUs to count."""
    folder = journal.folder(entry.key)
    starts, usage = journal.starts(entry.key), files.peek_json(folder / "usage.json")
    try:
        section = load_profile(entry.profile).section(entry.spec["stage"])
    except BadProfile:
        return dict.fromkeys(accounting.COLUMNS)
    ids = [one.end["slurm_id"] for one in entry.round() if one.end and one.end["slurm_id"]]
    return accounting.row_of(entry, section, starts, usage, ids)


def ended(journal: Journal, since: float) -> list[dict[str, Any]]:
    """A row a job that ended later than `since` (Unix seconds), oldest first."""
    found = [entry for entry in journal.all() if entry.state != "live" and (entry.ended or 0.0) >= since]
    rows = []
    for entry in sorted(found, key=lambda one: one.ended or 0.0):
        took = {**_took(journal, entry), "name": entry.spec["name"], "state": entry.state, "cause": entry.cause}
        rows.append({**{name: took[name] for name in ENDED[:-1]}, "folder": str(journal.folder(entry.key))})
    return rows


def total(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Sums; None for what no job could tell."""
    known = {name: [row[name] for row in rows if row[name] is not None] for name in SUMMED}
    return {name: round(sum(values), 3) if values else None for name, values in known.items()}
