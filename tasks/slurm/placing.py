"""Getting jobs into the queue exactly once: intent, sbatch, handle; and what to do when sbatch leaves a doubt."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import faults, files
from tasks.slurm.journal import Entry, Journal, Submission
from tasks.slurm.profiles import Profile
from tasks.slurm.scheduler import Answer, Memory, Reply, Scheduler, View
from tasks.slurm.states import Verdict, meaning

RETRY_SECONDS = 60.0  # after a site's limit said "later"
SKEW_SECONDS = 60.0  # clocks of this machine and the controller may differ by this much


class Placer:
    """Submits journalled entries. Every method expects the caller to hold the journal's lock, given as `lock`."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        profile: Profile,
        tell: Callable[..., None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal, self._scheduler, self._profile = journal, scheduler, profile
        self._tell, self._clock = tell, clock
        self._later = 0.0
        self._placed_since_view: list[tuple[float, int]] = []

    # -- placing
    def place(self, entries: Sequence[Entry], *, array: bool, lock: int, after: Sequence[str] = ()) -> None:
        """One sbatch for the newest attempts of `entries`."""
        faults.reach("before_intent")
        submission = self._journal.prepare(entries, array=array)
        files.write_bytes(submission.script, self.script(submission, entries, after).encode())
        self._journal.intend(submission, entries)
        faults.reach("after_intent")
        self._order(submission, entries, lock)

    def script(self, submission: Submission, entries: Sequence[Entry], after: Sequence[str] = ()) -> str:
        """The exact text for sbatch."""
        from tasks.slurm.submit import Order, render  # submitit takes a tenth of a second to import

        first = entries[0]
        order = Order(
            token=submission.token,
            comment=first.key if not submission.array else submission.token,
            stage=submission.stage,
            folder=submission.folder,
            code=Path(first.code["folder"]),
            tasks=len(entries) if submission.array else None,
            after=tuple(after),
            exclude=tuple(first.attempt.exclude),
        )
        return render(self._profile, order)

    def _order(self, submission: Submission, entries: Sequence[Entry], lock: int, *, again: bool = False) -> None:
        environment = self._profile.exported(submission.stage)
        environment["PYTHONPATH"] = entries[0].code["folder"]
        answer = self._scheduler.order(submission, environment, lock)
        faults.reach("after_sbatch")
        if answer.reply is Reply.ACCEPTED:
            self._accept(submission, answer.slurm_id, "reply")
            self._placed_since_view.append((self._clock(), len(entries)))
        elif answer.reply is Reply.REJECTED:
            for entry in entries:
                self._refuse(entry, answer.text)
        elif answer.reply is Reply.LATER:
            self._later = self._clock() + RETRY_SECONDS
            if not again:  # else the earlier order may still be accepted: its name must stay known
                self._withdraw(entries)
            self._tell("held", entries[0], text=answer.text)
        else:
            self._tell("doubt", entries[0], text=answer.text)

    def _accept(self, submission: Submission, slurm_id: str, how: str) -> None:
        self._journal.handle(submission, slurm_id, how)
        for member in submission.members:
            entry = self._journal.read(member["key"])
            if entry is not None:
                own = submission.member_id(entry.attempt.index, slurm_id)
                self._tell("submitted", entry, slurm_id=own, how=how)

    def _refuse(self, entry: Entry, text: str) -> None:
        entry.attempt.end = {"cause": "rejected", "node": "", "slurm_id": "", "at": self._clock()}
        entry.state, entry.cause, entry.message, entry.ended = "failed", "rejected", text, self._clock()
        self._journal.write(entry)
        self._tell("failed", entry, cause="rejected", text=text)

    def _withdraw(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.attempt.token, entry.attempt.index = "", 0
            self._journal.write(entry)

    def has_room(self) -> bool:
        """Whether the profile's cap, and the site's last "later", let one more job into the queue now."""
        if self._clock() < self._later:
            return False
        if self._profile.max_parallel is None or self._profile.executor == "local":
            return True
        view = self._scheduler.view([])
        since = view.at if view else 0.0
        self._placed_since_view = [(at, count) for at, count in self._placed_since_view if at >= since]
        recent = sum(count for _, count in self._placed_since_view)
        return recent + (active(view, self._journal.root_id) if view else 0) < self._profile.max_parallel

    # -- doubt
    def settle(self, submission: Submission, view: View | None, memory: Memory, lock: int) -> bool:
        """Find out what became of a submission without a handle; True once something was decided."""
        entries = [self._journal.read(member["key"]) for member in submission.members]
        own = [one for one in entries if one is not None and one.attempt.token == submission.token]
        answer = self._scheduler.recall(submission)
        if answer is None:  # sbatch was never started
            self._withdraw(own)
            return True
        found, how = self._search(submission, answer, view, memory)
        if found:
            self._accept(submission, found, how)
            return True
        if self._clock() < self._later or not self._surely_lost(submission, view, memory):
            return False
        self._tell("resubmitted", own[0], text="sbatch's job is in neither queue nor accounting")
        self._order(submission, own, lock, again=True)
        return True

    def _search(
        self, submission: Submission, answer: Answer, view: View | None, memory: Memory
    ) -> tuple[str | None, str]:
        if answer.reply is Reply.ACCEPTED:
            return answer.slurm_id, "reply"
        claimed = claimant(submission)
        if claimed:
            return claimed.partition("_")[0], "claim"
        if view is not None and submission.token in view.bases:
            return min(view.bases[submission.token], key=lambda base: (len(base), base)), "queue"
        for row in memory.rows:
            return row.id.partition("_")[0], "accounting"
        return None, ""

    def _surely_lost(self, submission: Submission, view: View | None, memory: Memory) -> bool:
        ordered = os.stat(submission.reply).st_mtime
        asked_after = max(ordered, submission.created) + self._profile.settle_seconds
        if view is None or not view.whole or view.at < asked_after:
            return False
        return memory.absent or (memory.at is not None and memory.at >= asked_after)

    def drop_twins(self, submission: Submission, base: str, view: View) -> str:
        """End a second Slurm job of the same submission (an sbatch believed lost that came late); the one to follow."""
        others = sorted(view.bases.get(submission.token, {base}) - {base})
        if not others:
            return base
        claimed = (claimant(submission) or "").partition("_")[0]
        keep = claimed if claimed in others else base
        rows = [row for row in view.rows.values() if row.name == submission.token]
        surplus = [row.id for row in rows if row.id.partition("_")[0] != keep and is_active(row.state)]
        self._scheduler.cancel(surplus)
        if keep != base:
            self._journal.handle(submission, keep, "claim")
        return keep


def claimant(submission: Submission) -> str | None:
    """Slurm id in the claim of any member of a submission."""
    for member in submission.members:
        claim = files.peek_json(Path(member["folder"]) / f"claim-{member['attempt']}.json")
        if claim:
            return str(claim["slurm_id"])
    return None


def is_active(state: str) -> bool:
    """Waiting, running, or about to be put back."""
    return meaning(state).verdict in (Verdict.WAITING, Verdict.RUNNING, Verdict.SETTLING)


def active(view: View, root_id: str) -> int:
    """Jobs of this root that take up a place in the queue."""
    return sum(1 for row in view.rows.values() if f".{root_id[:4]}-" in row.name and is_active(row.state))


def chunks(entries: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    """Entries of one stage each, at most `most` at a time."""
    by_stage: dict[str, list[Entry]] = {}
    for entry in entries:
        by_stage.setdefault(entry.spec["stage"], []).append(entry)
    for group in by_stage.values():
        for start in itertools.count(0, most):
            chunk = group[start : start + most]
            if not chunk:
                break
            yield chunk


def describe(entry: Entry, **fields: Any) -> dict[str, Any]:
    """The part of an event that says which job it is about."""
    return {"job": entry.spec["name"], "key": entry.key, "attempt": entry.attempt.number, **fields}
