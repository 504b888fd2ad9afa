"""Getting jobs into the queue exactly once: intent, sbatch, handle; and what to do when sbatch leaves a doubt."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import faults, files
from tasks.slurm.commands import SUBMIT_TIMEOUT_S
from tasks.slurm.entries import Attempt, Entry, Submission
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import Profile
from tasks.slurm.scheduler import Answer, Memory, Reply, Scheduler, View
from tasks.slurm.states import Verdict, meaning

HOLD_S, MOST_HOLD_S = 60.0, 1800.0  # first and longest pause after a site said "later"
MOST_ORDERS = 12  # of one submission that sbatch leaves in doubt: over an hour with the pauses between
MOST_DOUBT_S = 600.0  # longest pause between two of them


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
            memory_bytes=first.attempt.memory_bytes,
        )
        return render(self._profile, order)

    def _order(self, submission: Submission, entries: Sequence[Entry], lock: int, *, again: bool = False) -> None:
        environment = self._profile.exported(submission.stage)
        environment["PYTHONPATH"] = entries[0].code["folder"]
        for entry in entries:
            entry.attempt.orders, entry.attempt.ordered = entry.attempt.orders + 1, self._clock()
            if again:
                self._journal.write(entry)  # the count holds over a crash
        answer = self._scheduler.order(submission, environment, lock)
        faults.reach("after_sbatch")
        if answer.reply is Reply.ACCEPTED:
            self._accept(submission, answer.slurm_id, "reply")
            self._placed_since_view.append((self._clock(), len(entries)))
        elif answer.reply is Reply.DOUBTFUL or again or not answer.sure:
            self._doubt(entries, answer)  # the job, or that of an earlier order, may be there: it is looked for first
        elif answer.reply is Reply.REJECTED:
            for entry in entries:
                self._refuse(entry, answer.text)
        else:
            self._hold(entries, answer)

    def _doubt(self, entries: Sequence[Entry], answer: Answer) -> None:
        later = answer.reply is Reply.LATER
        for entry in entries:
            one = entry.attempt
            one.said, one.refused = answer.text, answer.reply is Reply.REJECTED
            if later:
                self._put_off(one, answer.text)
                one.orders -= 1
                one.refused = self._clock() - one.held_since > self._profile.hold_seconds
            self._journal.write(entry)
        if later and answer.everybody:
            self._later = self._clock() + HOLD_S
        self._tell("held" if later else "doubt", entries[0], cause=answer.gist, text=answer.text)

    def _put_off(self, one: Attempt, text: str) -> None:
        now = self._clock()
        one.holds, one.held_since, one.said = one.holds + 1, one.held_since or now, text
        one.held_until = now + min(MOST_HOLD_S, HOLD_S * 2 ** (one.holds - 1))

    def _hold(self, entries: Sequence[Entry], answer: Answer) -> None:
        """The site wants none now: each waits its own growing pause; a limit on all jobs stops the others too."""
        now = self._clock()
        for entry in entries:
            one = entry.attempt
            one.token, one.index, one.orders = "", 0, 0
            self._put_off(one, answer.text)
            if now - one.held_since > self._profile.hold_seconds:
                self._refuse(entry, f"put off for {self._profile.hold_seconds / 3600:.0f} hours: {answer.text}")
                continue
            self._journal.write(entry)
            self._tell("held", entry, cause=answer.gist, text=answer.text, until=one.held_until)
        if answer.everybody:
            self._later = now + HOLD_S

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

    def may_try(self, entry: Entry) -> bool:
        """Whether the site's last "later" to this very job has passed."""
        return self._clock() >= entry.attempt.held_until

    def has_room(self) -> bool:
        """Whether the profile's cap, and the site's last "later" to everybody, let one more job into the queue now."""
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
        if not own or not self._surely_lost(submission, own[0].attempt, view, memory):
            return False
        self._lost(submission, own, lock)
        return True

    def _lost(self, submission: Submission, own: list[Entry], lock: int) -> None:
        """The order came to nothing: once more, unless somebody cancelled it, the site refused it, or it is enough."""
        first = own[0].attempt
        if all(entry.cancel for entry in own):
            self._withdraw(own)  # whoever looks next ends it
        elif first.refused or first.orders >= MOST_ORDERS:
            tried = "" if first.refused else f"sbatch, asked {first.orders} times, never accepted it: "
            for entry in own:
                self._refuse(entry, f"{tried}{first.said or 'no answer'}")
        elif self._clock() >= self._later and self.may_try(own[0]):
            self._tell("resubmitted", own[0], text="sbatch's job is in neither queue nor accounting")
            self._order(submission, own, lock, again=True)

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

    def _surely_lost(self, submission: Submission, one: Attempt, view: View | None, memory: Memory) -> bool:
        ordered = os.stat(submission.reply).st_mtime
        if ordered > self._clock() + MOST_DOUBT_S:  # the disk's clock is of another time: sbatch took this long at most
            ordered = max(submission.created, one.ordered) + SUBMIT_TIMEOUT_S
        settle = self._profile.settle_seconds
        pause = max(settle, min(MOST_DOUBT_S, settle * 2 ** max(0, one.orders - 1)))
        asked_after = max(ordered, submission.created, one.ordered) + pause
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
