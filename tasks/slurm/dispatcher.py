"""The public door: submit, wait, cancel, sweep, prune. Killed at any instant, it loses nothing and repeats nothing.

    dispatcher = Dispatcher(load_profile("slurm-dev"), Path("artifacts/jobs"))
    jobs = dispatcher.submit([JobSpec("train-fold-02", "denoise_core.jobs:train", {...}, {"manifest": sha256})])
    for outcome in dispatcher.wait(jobs):
        print(outcome.spec.name, outcome.state, outcome.cause)

All state is in the journal under `root`: the same specs submitted again, by this or another process, re-attach to what
is live and reuse what is done. Thread-safe between processes; within one, use a Dispatcher a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import belonging, faults
from tasks.slurm.clocks import steady
from tasks.slurm.ending import Ender
from tasks.slurm.entries import Entry
from tasks.slurm.files import damaged
from tasks.slurm.guests import Guests
from tasks.slurm.journal import Journal
from tasks.slurm.local import Local
from tasks.slurm.owners import Owners
from tasks.slurm.placing import Placer, chunks, describe
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import Profile
from tasks.slurm.reach import reach
from tasks.slurm.scheduler import Scheduler
from tasks.slurm.shared import log
from tasks.slurm.snapshot import Snapshot
from tasks.slurm.specs import Job, JobSpec, Outcome
from tasks.slurm.sweeping import Sweeper
from tasks.slurm.telling import Watch
from tasks.slurm.tracking import Tracker

__all__ = ["Dispatcher", "Job", "JobSpec", "Outcome"]

TICK_S = 0.25
TICK_PER_JOB_S = 0.002  # looking at one job's files costs about this much on a shared disk
STOP_S = 10.0  # before a cancellation that could not be put on record is tried again
TROUBLE_S = 60.0  # a disk in trouble is told about this often
# what passes: a disk that is full, away or overloaded, a lock daemon that restarts, a process table at its limit
PASSING = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EAGAIN, errno.EBUSY, errno.EINTR,
    errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
})  # fmt: skip
COMPLAIN_S = 10.0  # how long a submission does, before it says for whom


class Dispatcher:
    """One process's hold on the jobs under `root`."""

    def __init__(
        self,
        profile: Profile,
        root: Path,
        *,
        events: Callable[[dict[str, Any]], None] | None = None,
        code: Snapshot | None = None,
        detach: bool = False,
        owner: str | None = None,
        scheduler: Scheduler | None = None,
        clock: Callable[[], float] = steady,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            profile: where jobs run.
            root: folder of the journal, on a disk that every node sees.
            events: called with one dict for everything worth an audit line (submitted, remedy, done, ...).
            code: snapshot to run; default: one of each function's own package, taken at `submit`.
            detach: leave jobs running when the wait is stopped or this process dies.
            owner: name under which jobs are held (such as a flow run's id); default: this process.
            scheduler: default: Slurm or this machine, as the profile says.
        """
        self.profile, self.detach, self._code = profile, detach, code
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._clock, self._sleep, self._events = clock, sleep, events or (lambda event: None)
        self.journal = Journal(Path(root), clock)
        self.owners = Owners(self.journal.root, self.owner, clock)
        self.scheduler: Scheduler = scheduler or self._own_scheduler()
        self._placer = Placer(self.journal, self.scheduler, profile, self._tell, clock)
        self._ender = Ender(self.journal, self.scheduler, profile, self._tell, clock)
        self._tracker = Tracker(self.journal, self.scheduler, self._placer, self._ender, profile, self._tell, clock)
        self._sweeper = Sweeper(
            self.journal, self.scheduler, self._tracker, self._ender, self.owners, profile, self._tell, clock
        )
        self._troubled = self._stop_again = float("-inf")

    def _own_scheduler(self) -> Scheduler:
        if self.profile.executor == "local":
            return Local(self.profile, self.journal.root, self._clock)
        slurm = Slurm(clock=self._clock, poll_seconds=self.profile.poll_seconds, accounting=self.profile.accounting)
        if all(one.allocation == "own" for one in self.profile.stages.values()):
            return slurm
        return Guests(slurm, self.profile, self.journal.root, self.journal.folder, self._clock)

    def _tell(self, event: str, entry: Entry, **fields: Any) -> None:
        self._say(event, **describe(entry, **fields))

    def _say(self, event: str, **fields: Any) -> None:
        try:
            self._events({"event": event, "at": self._clock(), **fields})
        except Exception:  # who listens must not decide what happens to the job
            log.exception("event %s of %s was not taken", event, fields["job"])

    # -- submit
    def submit(
        self,
        specs: Sequence[JobSpec],
        *,
        array: bool = False,
        fresh: bool = False,
        after: Sequence[Job] = (),
        inside: Job | None = None,
    ) -> list[Job]:
        """Bring jobs into the queue, in the order of `specs`; what is live is joined, what is done is reused.

        As do all the others here, it refuses a root whose live jobs are in another cluster (BadInput).

        Args:
            specs: equal specs (same key) become one job.
            array: one sbatch for all new jobs of a stage, split at the cluster's MaxArraySize.
            fresh: set earlier results and checkpoints aside and run again. So is a result set aside whose `files`
                (path to sha256, a folder's as `files.sha256_of` has it) are not on disk as it says.
            after: jobs that must be done before these start.
            inside: a job that is done, whose allocation these may share where the profile says so.
        """
        code = self._code or Snapshot.take(self.journal.root, _packages(specs))
        self._verify_cluster()
        self.owners.beat()
        reached: dict[str, str] = {}
        keys = [self._key(spec, reached) for spec in specs]
        with self.owners.alive(), self._lock(keys[0] if keys else "", specs) as lock:
            new = [
                entry
                for key, spec in dict(zip(keys, specs, strict=True)).items()
                if (entry := self._admit(key, spec, code, fresh, after)) is not None
            ]
            for entry in new:
                entry.inside = inside.key if inside else ""
            self._place_new(new, array=array, lock=lock)
        found = [self.journal.read(key) for key in keys]
        return [self.journal.job(entry) for entry in found if entry is not None]

    @contextlib.contextmanager
    def _lock(self, key: str, specs: Sequence[JobSpec]) -> Iterator[int]:
        """The journal's lock; who holds it is told when that takes long."""
        who = f"{self.owner}, submitting {len(specs)} jobs"
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(self.journal.lock(COMPLAIN_S, who=who))
            except TimeoutError as error:
                log.warning("%s; waiting for it", error)
                self._say("waiting", job=specs[0].name, key=key, text=str(error))
                lock = stack.enter_context(self.journal.lock(who=who))
            yield lock

    def known(self, spec: JobSpec) -> dict[str, Any] | None:
        """The result that `submit` would reuse; None where it would run the job. Submits nothing."""
        entry = self.journal.read(self._key(spec))
        result = self._ender.result(entry) if entry is not None and entry.state == "done" else None
        return None if result is None or damaged(result) else result

    def _admit(self, key: str, spec: JobSpec, code: Snapshot, fresh: bool, after: Sequence[Job]) -> Entry | None:
        """The entry of `key` if it has to be placed now; None when it is live already or done."""
        entry = self.journal.read(key)
        result = self._ender.result(entry) if entry is not None and entry.state == "done" else None
        if entry is not None and result is not None and (lost := damaged(result)):
            self._tell("damaged", entry, text=f"{lost} is not what the job left: everything again")
            fresh = True
        if entry is not None and fresh:
            self._stop_for_good(entry)
            number = entry.attempt.number
            self.journal.set_aside(key)
            entry = self._new_entry(key, spec, code, after)
            entry.attempt.number = number + 1  # claims and tokens of the old run stay strangers
            return entry
        if entry is None:
            return self._new_entry(key, spec, code, after)
        entry.owner, entry.detach = self.owner, self.detach
        if result is not None:
            self._tell("reused", entry)
            return None
        if entry.state == "live" and entry.cancel is None:
            self.journal.write(entry, durable=False)
            self._tell("attached", entry)
            return entry if not entry.attempt.token else None
        self._stop_for_good(entry)
        entry.open_round(self._clock())
        entry.spec = spec.to_json()  # places may have moved
        entry.code, entry.profile, entry.executor = _code_of(code), self.profile.name, self.profile.executor
        entry.after = [job.key for job in after]
        return entry

    def _key(self, spec: JobSpec, reached: dict[str, str] | None = None) -> str:
        """Identity of a job; inside a container, its image is as much a part of it as the code.

        `reached`: what functions reach, found out once (20 ms) for all jobs of one submission.
        """
        reached = {} if reached is None else reached
        code = reached.get(spec.function) or reach(spec.function).identity
        reached[spec.function] = code
        container = self.profile.section(spec.stage).container
        return spec.key(f"{code} in {container.digest(self.journal.root / 'images.json')}" if container else code)

    def _new_entry(self, key: str, spec: JobSpec, code: Snapshot, after: Sequence[Job]) -> Entry:
        entry = Entry(
            key=key,
            spec=spec.to_json(),
            profile=self.profile.name,
            executor=self.profile.executor,
            code=_code_of(code),
            owner=self.owner,
            detach=self.detach,
            created=self._clock(),
            usage_seconds=self.profile.usage_seconds,
            after=[job.key for job in after],
        )
        entry.open_round(self._clock())
        return entry

    def _stop_for_good(self, entry: Entry) -> None:
        """Before a job starts over: whatever still runs of it is fenced off by the journal and told to end."""
        if entry.state == "live" and entry.attempt.token:
            submission = self.journal.submission(entry.attempt.token)
            base = submission.slurm_id()
            if base:
                self.scheduler.cancel([submission.member_id(entry.attempt.index, base)])

    def _place_new(self, entries: list[Entry], *, array: bool, lock: int) -> None:
        ready: list[tuple[Entry, list[str]]] = []
        for entry in entries:
            ids = self._tracker.dependencies(entry)
            if ids is not None and (not array or self._placer.may_try(entry)):
                ready.append((entry, ids))
            elif entry.state == "live":
                self.journal.write(entry)
        if array and len(ready) > 1:
            for group in chunks([entry for entry, _ in ready], self._array_size()):
                self._placer.place(group, array=len(group) > 1, lock=lock, after=ready[0][1])
            return
        for entry, ids in ready:
            if self._placer.may_try(entry) and self._placer.has_room():
                self._placer.place([entry], array=False, lock=lock, after=ids)
            else:
                self.journal.write(entry)  # waits in the journal for a place

    def _array_size(self) -> int:
        return self.profile.max_array_size or self.scheduler.max_array_size()

    # -- wait
    def wait(
        self,
        jobs: Sequence[Job],
        *,
        on_progress: Callable[[Job, dict[str, Any]], None] | None = None,
        on_log: Callable[[Job, str], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Outcome]:
        """Yield each job's outcome as it ends, applying remedies meanwhile. Time in the queue never counts as failure.

        Args:
            on_progress: called on every change, and at the end, with state, node, attempt, slurm_id, elapsed_s and the
                job's own fields.
            on_log: called with new text of a job's output: one or more whole lines, without the last line end.
            stop: polled several times a second; once True, jobs are cancelled (outcomes "cancelled" follow), or with
                `detach` left alone (the iteration ends).
        """
        self._verify_cluster()
        watches = {job.key: Watch(job, on_progress, on_log) for job in jobs}
        with self.owners.alive():
            yield from self._wait(watches, stop)

    def _wait(self, watches: dict[str, Watch], stop: Callable[[], bool] | None) -> Iterator[Outcome]:
        stopped = False
        while watches:
            self.owners.beat()
            if stop is not None and not stopped and stop():
                if self.detach:
                    return
                stopped = self._stop(watches)
            for key, outcome in self._look(watches):
                del watches[key]
                yield outcome
            faults.reach("waiting")
            if watches:
                self._sleep(max(TICK_S, TICK_PER_JOB_S * len(watches)))

    def _look(self, watches: dict[str, Watch]) -> list[tuple[str, Outcome]]:
        """A look that a disk in trouble only delays: the jobs run on, and the next look sees as much."""
        with self._patient(watches):
            return self._tracker.look(watches)
        return []

    def _stop(self, watches: dict[str, Watch]) -> bool:
        """Whether the end of all is on record; a disk in trouble delays that, and Slurm is told all the same."""
        if self._clock() < self._stop_again:
            return False
        self._stop_again = self._clock() + STOP_S
        with self._patient(watches):
            self.cancel([watch.job for watch in watches.values()])
            return True
        return False

    @contextlib.contextmanager
    def _patient(self, watches: dict[str, Watch]) -> Iterator[None]:
        """What a disk in trouble prevents is tried again later, and the trouble told once in a while."""
        try:
            yield
        except OSError as error:
            if error.errno not in PASSING:
                raise
            if self._clock() - self._troubled >= TROUBLE_S:
                self._troubled = self._clock()
                entry = self.journal.read(next(iter(watches)))
                text = f"{error.strerror}: {error.filename or self.journal.root}; waiting until it passes"
                log.warning("%s", text)
                if entry is not None:
                    self._tell("trouble", entry, cause=error.strerror, text=text)

    # -- cancel, sweep, prune
    def cancel(self, jobs: Sequence[Job]) -> None:
        """End jobs for good: no remedy brings them back. Returns at once; `wait` reports when they are gone."""
        self._verify_cluster()
        self._sweeper.cancel(jobs)

    def abandon(self, owner: str) -> list[Job]:
        """Cancel what a dead owner, such as a flow run that crashed, held here and did not detach. Returns it.

        A job that another owner took over meanwhile is left alone; one cancelled like this goes on from its last
        checkpoint when it is asked for again.
        """
        self._verify_cluster()
        return self._sweeper.abandon(owner)

    def sweep(self, *, grace_s: float = 60.0) -> list[Job]:
        """Cancel orphans: live jobs, not detached, whose owner has been dead for `grace_s`. Returns them.

        Also ends, in the journal, what was cancelled earlier while nobody waited for it; and in the queue, what waits
        there though its work is over.
        """
        self._verify_cluster()
        return self._sweeper.sweep(grace_s)

    def _verify_cluster(self) -> None:
        belonging.verify(self.journal, self.scheduler, self.profile.executor)

    def prune(self, older_than_s: float) -> list[Path]:
        """Remove ended jobs, their submissions and code no job needs any more, older than `older_than_s` seconds."""
        return self.journal.prune(older_than_s)

    # -- dry run
    def dry_run(self, specs: Sequence[JobSpec], *, array: bool = False) -> str:
        """The exact sbatch text that `submit` would use for `specs`, and nothing else happens.

        Only the nonce at the end of the job's name is drawn anew at each submission.
        """
        code = self._code or Snapshot.of(self.journal.root, _packages(specs))
        entries = [self._new_entry(self._key(spec), spec, code, ()) for spec in specs]
        groups = list(chunks(entries, self._array_size())) if array else [[entry] for entry in entries]
        texts = []
        for group in groups:
            submission = self.journal.draft(group, array=array and len(group) > 1)
            texts.append(self._placer.script(submission, group))
        return "\n".join(texts)


def _code_of(code: Snapshot) -> dict[str, str]:
    return {"folder": str(code.folder), "sha256": code.sha256}


def _packages(specs: Sequence[JobSpec]) -> list[str]:
    return sorted({spec.function.split(":")[0].split(".")[0] for spec in specs})
