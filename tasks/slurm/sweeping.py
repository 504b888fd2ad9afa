"""Jobs that shall end: cancelled by a person, left by an owner that died, over though the queue still has them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tasks.slurm.ending import Ender
from tasks.slurm.entries import Entry
from tasks.slurm.journal import Journal
from tasks.slurm.owners import Owners
from tasks.slurm.profiles import Profile
from tasks.slurm.scheduler import Scheduler
from tasks.slurm.shared import log
from tasks.slurm.specs import Job
from tasks.slurm.states import Row, Verdict, meaning
from tasks.slurm.telling import Watch
from tasks.slurm.tracking import Tracker

CANCEL_LOCK_S = 2.0  # how long a cancellation waits for somebody's sbatch before it goes its own way


class Sweeper:
    """Ends jobs on behalf of one owner; what is promised stands in `Dispatcher`."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        tracker: Tracker,
        ender: Ender,
        owners: Owners,
        profile: Profile,
        tell: Callable[..., None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal, self._scheduler, self._tracker, self._ender = journal, scheduler, tracker, ender
        self._owners, self._profile, self._tell, self._clock = owners, profile, tell, clock

    def cancel(self, jobs: Sequence[Job]) -> None:
        """As `Dispatcher.cancel`."""
        self._cancel(jobs, lambda entry: True)

    def abandon(self, owner: str) -> list[Job]:
        """As `Dispatcher.abandon`."""
        left = [self._journal.job(entry) for entry in self._here() if entry.owner == owner and not entry.detach]
        self._cancel(left, functools.partial(_still_of, owner), f"its owner {owner} is gone")
        return left

    def sweep(self, grace_s: float) -> list[Job]:
        """As `Dispatcher.sweep`."""
        orphans: list[Job] = []
        for entry in self._here():
            orphaned = not entry.detach and entry.owner != self._owners.own and self._owners.dead(entry.owner, grace_s)
            try:
                if orphaned and self._end_orphan(entry):
                    orphans.append(self._journal.job(entry))
            except OSError as error:  # what somebody else's job lacks is no business of the caller's own
                log.warning("orphan %s not ended: %s", entry.spec["name"], error)
        if left := self._left_over():
            self._scheduler.cancel(left)
        return orphans

    def _left_over(self) -> list[str]:
        """Slurm ids that wait for a start of which nothing can come: the attempt is over.

        A node that was lost finished it, and Slurm put the job back. It would leave by itself as soon as it starts;
        held after a failed launch, it never does.
        """
        view = self._scheduler.view([])
        rows = view.rows.values() if view else []
        return [row.id for row in rows if meaning(row.state).verdict is Verdict.WAITING and self._over(row)]

    def _over(self, row: Row) -> bool:
        member = self._journal.member(row.name, row.id)
        entry = self._journal.read(member["key"]) if member else None
        if member is None or entry is None:
            return False
        return entry.state != "live" or entry.attempt.number > int(member["attempt"])

    def _end_orphan(self, entry: Entry) -> bool:
        """Whether the job was still going, and is told to end now."""
        job = self._journal.job(entry)
        if self._tracker.look({entry.key: Watch(job)}):
            return False
        # a flow that was started again may take the job over at this very moment
        beat = self._owners.last_beat(entry.owner) or {}
        why = f"swept: its owner {entry.owner} on {beat.get('host', 'an unknown host')} is gone"
        self._cancel([job], functools.partial(_still_of, entry.owner), why)
        return entry.cancel is None

    def _here(self) -> Iterator[Entry]:
        """Live jobs that this dispatcher's scheduler knows."""
        return (entry for entry in self._journal.live() if entry.executor == self._profile.executor)

    def _cancel(self, jobs: Sequence[Job], still: Callable[[Entry], bool], why: str = "") -> None:
        """With the journal's lock; behind somebody's slow sbatch without it, by a request that every reader honours."""
        request = {"at": self._clock(), "by": self._owners.own, **({"why": why} if why else {})}
        held = ""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._journal.lock(CANCEL_LOCK_S, who=f"{self._owners.own}, cancelling"))
            except TimeoutError as error:
                held = str(error)
            ids, trouble = [], None
            for job in jobs:
                try:
                    ids += self._ask_to_end(job, still, request, held)
                except OSError as error:  # nothing of it can be written now; the others, and Slurm, hear of it
                    trouble = error
                    ids += self._slurm_ids(job)
        if ids:
            self._scheduler.cancel(ids)
        if trouble is not None:
            raise trouble

    def _ask_to_end(self, job: Job, still: Callable[[Entry], bool], request: dict[str, Any], held: str) -> list[str]:
        """Put on record that a live job shall end; its Slurm id, where it has one. `held`: who has the lock."""
        entry = self._journal.read(job.key)
        if entry is None or entry.state != "live" or not still(entry):
            return []
        if (self._journal.marker(entry) or {}).get("state") == "done":
            return []  # it has its result already: whoever looks next tells so
        fresh, entry.cancel = entry.cancel is None, entry.cancel or request
        unplaced = not held and not entry.attempt.token
        if held:
            self._journal.request_cancel(entry, request)
        elif not unplaced:
            self._journal.write(entry)
        if fresh:  # told once it is on disk: a write that fails is tried again
            text = {"text": held} if held else {}
            self._tell("cancelling", entry, cause=request.get("why", ""), by=self._owners.own, **text)
        if unplaced:
            self._ender.cancelled_unplaced(entry)
        return self._slurm_ids(job)

    def _slurm_ids(self, job: Job) -> list[str]:
        """The Slurm job of the newest attempt, where it is known."""
        entry = self._journal.read(job.key)
        if entry is None or not entry.attempt.token:
            return []
        submission = self._journal.submission(entry.attempt.token)
        base = submission.slurm_id()
        return [submission.member_id(entry.attempt.index, base)] if base else []


def _still_of(owner: str, entry: Entry) -> bool:
    return entry.owner == owner
