"""A job that waits in the queue: nodes it must not start on, launches that failed, reasons that never end.

Time in the queue is no failure. But a job held after a failed launch starts never again unless somebody releases it,
and some of Slurm's reasons for waiting pass only if a person changes the request or the site: those are told once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tasks.slurm.ending import MOST_RELEASES, Ender, restarts
from tasks.slurm.entries import Entry
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import Profile
from tasks.slurm.remedies import excluded_nodes
from tasks.slurm.scheduler import Scheduler
from tasks.slurm.states import Row
from tasks.slurm.telling import Locked, Watch

PAUSE_S = 10.0  # between two updates of one waiting job
RELEASE_S = 30.0  # a failed launch is held this long before the next
LAUNCH_FAILED = re.compile(r"(launch|user[ _]env[ _]retrieval)[ _]failed[ _]requeued[ _]held", re.IGNORECASE)

# Slurm's reason for waiting -> what has to change; squeue(1), "JOB REASON CODES", 22.05 to 24.11
NEVER: tuple[tuple[str, str], ...] = (
    (r"PartitionConfig", "the partition takes no such job: nodes, CPUs, time, or who may use it"),
    (r"PartitionNodeLimit", "the partition gives no job so many nodes or CPUs"),
    (r"(Partition|QOS|Association)TimeLimit", "no job may have that much time there: lower time"),
    (r"BadConstraints", "no node fits gres, constraint, memory and cpus together"),
    (r"DependencyNeverSatisfied", "a job that this one waits for did not end well"),
    (r"Invalid(Account|QOS)|(Account|QOS)NotAllowed", "account and qos are not allowed here (any more)"),
    (r"(QOS|Assoc)Max\w*PerJob\w*|(QOS|Assoc)Min\w*", "one job alone breaks this limit of the site: lower the request"),
    (r"(QOS|Assoc)Grp(?!\w*Run)\w*Minutes\w*", "the hours of the account are used up: another account, or new hours"),
    (r"ReservationDeleted", "its reservation is gone: another one or none, then scontrol release"),
    (r"JobHoldMaxRequeue", "it was put back too often: find out why, then scontrol release"),
    (r"job requeued in held state", "it was put back and held: scontrol release"),
    (r"JobHeldUser", "a user holds it: scontrol release"),
    (r"JobHeldAdmin", "an administrator holds it: ask there"),
)

# What sbatch itself finds wrong is this word, whichever limit it is; the scheduler's first look then names the limit
FIRST_WORD, FIRST_LOOK_S = "PartitionConfig", 90.0  # sched_interval is a minute


def advice(reason: str) -> str:
    """What has to change before a job with this reason can start; empty for reasons that pass by themselves."""
    return next((text for words, text in NEVER if re.fullmatch(words, reason)), "")


class Waiter:
    """Attends to jobs that wait for their (next) start."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        ender: Ender,
        profile: Profile,
        tell: Callable[..., None],
        locked: Locked,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal, self._scheduler, self._ender, self._profile = journal, scheduler, ender, profile
        self._tell, self._locked, self._clock = tell, locked, clock

    def attend(self, watch: Watch, entry: Entry, row: Row, job_id: str) -> None:
        """One look at a waiting job."""
        if LAUNCH_FAILED.search(row.reason):
            self._launch_again(watch, entry, row, job_id)
            return
        self._tell_reason(watch, entry, row.reason, job_id)
        self._leave_out(watch, entry, job_id)

    def _tell_reason(self, watch: Watch, entry: Entry, reason: str, job_id: str) -> None:
        """Each reason that never ends, once a Slurm job: a later one may ask for another remedy."""
        if reason != watch.reason:
            watch.reason, watch.reason_since = reason, self._clock()
        if reason in watch.told or not (text := advice(reason)):
            return
        if reason == FIRST_WORD and self._clock() - watch.reason_since < FIRST_LOOK_S:
            return
        watch.told.add(reason)
        self._tell("stuck", entry, cause=reason, text=f"{reason}: {text}", slurm_id=job_id)

    def _launch_again(self, watch: Watch, entry: Entry, row: Row, job_id: str) -> None:
        """Release it; after enough of that, end it in Slurm: its end is then told as a failed launch."""
        if self._clock() - watch.insisted < RELEASE_S:
            return
        with self._locked(entry) as (held, _):
            if held is None:
                return
            watch.insisted = self._clock()
            if held.attempt.releases >= MOST_RELEASES:
                held.attempt.releases = MOST_RELEASES + 1
                self._journal.write(held)
                self._scheduler.cancel([job_id])
                return
            held.attempt.releases += 1
            self._journal.write(held)
            self._scheduler.release(job_id)
            self._tell("released", held, cause=row.reason, slurm_id=job_id)

    def _leave_out(self, watch: Watch, entry: Entry, job_id: str) -> None:
        """A job that waits for its next start stays away from a node that failed it twice."""
        ends = restarts(watch.begun(), entry.attempt.number, waiting=True)
        past = [(one.end["cause"], one.end["node"]) for one in entry.round() if one.end]
        bad = [node for node in excluded_nodes([*past, *ends]) if node not in entry.attempt.exclude]
        if not bad or self._clock() - watch.insisted < PAUSE_S:
            return
        with self._locked(entry) as (held, _):
            if held is None:
                return
            watch.insisted = self._clock()
            site = self._profile.section(held.spec["stage"]).exclude  # Slurm replaces the list, it does not add to it
            nodes = sorted({*held.attempt.exclude, *bad})
            if self._scheduler.exclude(job_id, [*filter(None, [site]), *nodes]):
                self._ender.leave_out(held, nodes, job_id)
                self._journal.write(held)
