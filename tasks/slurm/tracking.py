"""One look at many jobs: markers on disk first, then one shared view of the queue, then the accounting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from tasks.slurm import files
from tasks.slurm.ending import Ender, by_whom
from tasks.slurm.entries import Entry, Submission
from tasks.slurm.journal import Journal
from tasks.slurm.placing import Placer, claimant
from tasks.slurm.profiles import Profile
from tasks.slurm.scheduler import Memory, Scheduler, View
from tasks.slurm.shared import log
from tasks.slurm.specs import Outcome
from tasks.slurm.states import Row, Verdict, meaning
from tasks.slurm.telling import SKEW_SECONDS, Teller, Watch, node_says
from tasks.slurm.waiting import Waiter

INSIST_S = 10.0
LOCK_WAIT_S = 0.5  # somebody may be in the middle of a slow sbatch: look again at the next tick
COMPLAIN_S = 60.0  # a lock that somebody else keeps is told about this often
LOST_RESULT_PATIENCE = 6  # a job that ended well deserves more patience for its marker than one that was killed
RUNAWAY_PATIENCE = 5  # accounting says running, the queue has never heard of it: the controller lost its state


class Tracker:
    """Moves jobs on: places, settles doubts, ends attempts, yields outcomes."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        placer: Placer,
        ender: Ender,
        profile: Profile,
        tell: Callable[..., None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal, self._scheduler, self._placer, self._ender = journal, scheduler, placer, ender
        self._profile, self._clock = profile, clock
        self._teller = Teller(ender, self._locked_entry, clock)
        self._waiter = Waiter(journal, scheduler, ender, profile, tell, self._locked_entry, clock)
        self._unlocked = clock()
        self._submissions: dict[str, Submission] = {}
        self._handles: dict[str, tuple[str, float]] = {}

    def look(self, watches: dict[str, Watch]) -> list[tuple[str, Outcome]]:
        """One round over all jobs; those that ended."""
        ended: list[tuple[str, Outcome]] = []
        waiting: list[tuple[Watch, Entry]] = []
        for key, watch in watches.items():
            entry = self._entry(watch)
            if entry.state == "live":
                watch.seen_live = True
                number = entry.attempt.number
                entry = self._from_marker(entry)
                if entry.state != "live" or entry.attempt.number != number:
                    self._sweep_up(watch)
            if entry.state == "live":
                waiting.append((watch, entry))
            else:
                ended.append((key, self._outcome(watch, entry)))
        if waiting:
            self._from_scheduler(waiting)
        return ended

    def _entry(self, watch: Watch) -> Entry:
        content = watch.journal.read(watch.job.folder / "journal.json")
        if content is None:  # or a shared disk believes so
            files.refresh(watch.job.folder)
            content = watch.journal.read(watch.job.folder / "journal.json")
        if content is None:
            raise FileNotFoundError(f"{watch.job.folder}: the journal was removed while the job was live")
        return self._journal.with_request(Entry.from_json(content))

    def _outcome(self, watch: Watch, entry: Entry) -> Outcome:
        last = entry.attempt
        memory: dict[str, Memory] = {}
        if last.token and last.end and last.end["slurm_id"]:
            self._teller.follow_log(watch, entry, last.end["slurm_id"], last_time=True)
            if entry.state == "failed":
                memory = self._scheduler.remember([last.end["slurm_id"]], last.created)
        rows = [row for known in memory.values() for row in known.rows if self._ours(entry, row)]
        outcome = self._ender.outcome(entry, rows, reused=not watch.seen_live)
        self._teller.end(watch, outcome)
        return outcome

    # -- markers
    def _from_marker(self, entry: Entry) -> Entry:
        """The entry after what the node's marker says, if there is one."""
        if not entry.attempt.token or self._journal.marker(entry) is None:
            return entry
        with self._locked_entry(entry) as (held, lock):
            if held is None:
                return entry
            marker = self._journal.marker(held) or {}
            slurm_id, node = str(marker.get("slurm_id", "")), str(marker.get("node", ""))
            if marker.get("state") == "done":
                self._ender.done(held, slurm_id)
            elif held.cancel:
                self._ender.cancelled(held, f"cancelled while it ran{by_whom(held)}", slurm_id)
            elif marker and self._ender.failed(held, marker["cause"], marker["message"], slurm_id, node):
                self._place(held, lock)
            return held

    def _sweep_up(self, watch: Watch) -> None:
        """Its work is over, but Slurm was seen to put it back (its node was lost, and went on): nothing of it stays."""
        if meaning(watch.state).verdict in (Verdict.WAITING, Verdict.SETTLING) and watch.followed:
            self._scheduler.cancel([watch.followed])

    @contextlib.contextmanager
    def _locked_entry(self, entry: Entry) -> Iterator[tuple[Entry | None, int]]:
        """(fresh copy of `entry`, lock), or (None, 0) when the lock is taken or another process moved the job on."""
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(self._journal.lock(timeout_s=LOCK_WAIT_S, who=f"a look at {_name(entry)}"))
                self._unlocked = self._clock()
            except TimeoutError as error:
                if self._clock() - self._unlocked > COMPLAIN_S:
                    self._unlocked = self._clock()
                    log.warning("%s: %s can be neither submitted nor ended meanwhile", error, _name(entry))
                yield None, 0
                return
            held = self._journal.read(entry.key)
            yield (held, lock) if held is not None and _same_attempt(held, entry) else (None, 0)

    # -- scheduler
    def _from_scheduler(self, waiting: list[tuple[Watch, Entry]]) -> None:
        placed = {entry.attempt.token: self._submission(entry) for _, entry in waiting if entry.attempt.token}
        view = self._scheduler.view(placed.values())
        memory = self._ask_memory(waiting, view)
        settled: set[str] = set()
        for watch, entry in waiting:
            token = entry.attempt.token
            if not token:
                self._teller.unplaced(watch, entry)
                self._try_place(entry)
            elif self._handle(placed[token]) is None:
                if token not in settled:  # once for all members of an array
                    settled.add(token)
                    self._settle(entry, placed[token], view, memory.get(token, Memory()))
            else:
                self._step(watch, entry, view, memory)

    def _submission(self, entry: Entry) -> Submission:
        token = entry.attempt.token
        if token not in self._submissions:
            self._submissions[token] = self._journal.submission(token)
        return self._submissions[token]

    def _handle(self, submission: Submission) -> str | None:
        if submission.token not in self._handles:
            content = files.peek_json(submission.folder / "handle.json")
            if content is None:
                return None
            self._handles[submission.token] = (content["slurm_id"], content["at"])
        return self._handles[submission.token][0]

    def _id(self, entry: Entry) -> str | None:
        submission = self._submission(entry)
        base = self._handle(submission)
        return submission.member_id(entry.attempt.index, base) if base else None

    def _ask_memory(self, waiting: list[tuple[Watch, Entry]], view: View | None) -> dict[str, Memory]:
        if view is None:
            return {}
        asked: dict[str, float] = {}
        for _, entry in waiting:
            if not entry.attempt.token:
                continue
            job_id = self._id(entry)
            if job_id is None:
                asked[entry.attempt.token] = entry.attempt.created
            elif self._row_of(view, job_id, entry) is None and view.at > self._handles[entry.attempt.token][1]:
                asked[job_id] = entry.attempt.created
        return self._scheduler.remember(sorted(asked), min(asked.values())) if asked else {}

    def _try_place(self, entry: Entry) -> None:
        if not entry.cancel and not self._placer.may_try(entry):
            return
        with self._locked_entry(entry) as (held, lock):
            if held is not None:
                self._place(held, lock)

    def _place(self, entry: Entry, lock: int) -> None:
        """Submit the newest attempt if its dependencies and the caps allow it; else it waits in the journal."""
        if entry.cancel:
            self._ender.cancelled_unplaced(entry)
            return
        ids = self.dependencies(entry)
        if ids is not None and self._placer.may_try(entry) and self._placer.has_room():
            self._placer.place([entry], array=False, lock=lock, after=ids)

    def dependencies(self, entry: Entry) -> list[str] | None:
        """Slurm ids `entry` has to wait for; None: not known yet, or the entry was given up over one that failed."""
        ids: list[str] = []
        for key in entry.after:
            other = self._journal.read(key)
            if other is not None and other.state == "done":
                continue
            if other is None or other.state != "live":
                name = other.spec["name"] if other else key[:12]
                self._ender.give_up(entry, "dependency", f"{name}, which this job waits for, did not end well")
                return None
            found = self._id(other) if other.attempt.token else None
            if found is None or self._profile.executor == "local":
                return None
            ids.append(found)
        return ids

    def _settle(self, entry: Entry, submission: Submission, view: View | None, memory: Memory) -> None:
        with self._locked_entry(entry) as (held, lock):
            if held is not None and submission.slurm_id() is None:
                self._placer.settle(submission, view, memory, lock)

    # -- one job
    def _step(self, watch: Watch, entry: Entry, view: View | None, memory: dict[str, Memory]) -> None:
        submission = self._submission(entry)
        base, known_at = self._handles[submission.token]
        if view is not None:
            kept = self._placer.drop_twins(submission, base, view)
            if kept != base:
                self._handles[submission.token] = (kept, known_at)
        job_id = submission.member_id(entry.attempt.index, self._handles[submission.token][0])
        if watch.followed != job_id:  # another process may have moved the job on: the clocks below start anew
            watch.followed, watch.state, watch.missing_since, watch.waited = job_id, "", None, None
            watch.reason, watch.told = "", set()
        row = self._row_of(view, job_id, entry) if view else None
        self._teller.seen(watch, entry, row, job_id, view.at if view else 0.0)
        self._teller.restarts(watch, entry, job_id)
        if row is None:
            self._missing(watch, entry, job_id, view, memory.get(job_id, Memory()), known_at)
            return
        watch.missing_since = None
        watch.waited = view.at if view and meaning(row.state).verdict is Verdict.WAITING else None
        watch.submitted = row.submitted
        at = view.at if view else 0.0
        self._judge(watch, entry, node_says(watch, entry, job_id, at, self._clock()) or row, job_id, at)

    def _judge(self, watch: Watch, entry: Entry, row: Row, job_id: str, at: float) -> None:
        """What follows from a row that queue or accounting showed at `at`."""
        if row.state != watch.state:
            watch.state, watch.state_since = row.state, self._clock()
        found = meaning(row.state)
        if found.verdict in (Verdict.WAITING, Verdict.RUNNING) and entry.cancel:
            self._insist(watch, job_id)
        elif found.verdict is Verdict.WAITING:
            self._waiter.attend(watch, entry, row, job_id)
        if found.verdict not in (Verdict.SETTLING, Verdict.ENDED):
            return
        patience, now = self._profile.marker_grace_seconds, self._clock()
        if found.verdict is Verdict.SETTLING:  # Slurm may have put it back since: only a newer look can tell
            patience, now = max(patience, self._profile.settle_seconds), at
        elif found.cause == "lost_result":
            patience *= LOST_RESULT_PATIENCE
        if entry.cancel or now - watch.state_since >= patience:
            self._conclude(entry, row, found.cause, job_id)

    def _insist(self, watch: Watch, job_id: str) -> None:
        """Cancelled, but still there: its id was not known then, or the controller was away."""
        if self._clock() - watch.insisted >= INSIST_S:
            watch.insisted = self._clock()
            self._scheduler.cancel([job_id])

    def _missing(
        self, watch: Watch, entry: Entry, job_id: str, view: View | None, memory: Memory, known_at: float
    ) -> None:
        if view is None or view.at <= known_at or not view.whole:
            return
        if watch.missing_since is None:
            watch.missing_since = view.at
        gone = Row(job_id, entry.attempt.token, "MISSING")
        if entry.cancel and view.at > entry.cancel["at"]:
            self._conclude(entry, gone, "cancelled", job_id)
            return
        remembered = [row for row in memory.rows if row.id == job_id and self._ours(entry, row)]
        patience = self._profile.vanish_seconds
        if remembered:
            verdict = meaning(remembered[0].state).verdict
            if verdict in (Verdict.SETTLING, Verdict.ENDED):
                self._judge(watch, entry, remembered[0], job_id, memory.at or 0.0)
                return
            patience *= RUNAWAY_PATIENCE
        answered = memory.absent or (memory.at is not None and memory.at >= watch.missing_since)
        if answered and view.at - watch.missing_since >= patience:
            if self._removed_waiting(watch, entry, memory):
                gone = Row(job_id, entry.attempt.token, "CANCELLED")
            self._conclude(entry, gone, "cancelled" if gone.state == "CANCELLED" else "vanished", job_id)

    def _removed_waiting(self, watch: Watch, entry: Entry, memory: Memory) -> bool:
        """Whether it was cancelled before it ever began: Slurm keeps no trace of a waiting member of an array.

        Either the accounting knows its siblings and not it. Or the queue showed it waiting, the controller has not
        lost its memory since, and had it begun and ended meanwhile, the queue (or the accounting) would still say so.
        """
        if any(line["attempt"] == entry.attempt.number for line in self._journal.starts(entry.key)):
            return False
        if entry.attempt.token in memory.siblings and not memory.rows:
            return True
        if watch.waited is None or watch.missing_since is None or watch.submitted is None:
            return False
        controller = self._scheduler.controller()
        if controller is None or controller.began > watch.submitted:
            return False
        unheard = not memory.absent and not memory.rows
        return unheard or watch.missing_since - watch.waited < controller.keeps_s

    def _row_of(self, view: View, job_id: str, entry: Entry) -> Row | None:
        row = view.rows.get(job_id)
        return row if row is not None and self._ours(entry, row) else None

    def _ours(self, entry: Entry, row: Row) -> bool:
        """Whether a row under this attempt's id is its own: by name or comment; both changed since, by its submission.

        Of another hour, a cluster that was set up anew gave the id again.
        """
        if row.name == entry.attempt.token or row.comment in (entry.attempt.token, entry.key):
            return True
        submission = self._submission(entry)
        known_at = self._handles.get(submission.token, ("", 0.0))[1]
        return row.submitted is not None and submission.created - SKEW_SECONDS < row.submitted < known_at + SKEW_SECONDS

    def _conclude(self, entry: Entry, row: Row, cause: str, job_id: str) -> None:
        """The attempt is over without a marker."""
        files.refresh(self._journal.folder(entry.key))
        with self._locked_entry(entry) as (held, lock):
            if held is None or self._journal.marker(held) is not None:
                return  # somebody else was faster, or the marker turned up: the next look sees it
            if self._adopt_claimant(held, job_id) or self._ender.certify(held, job_id, row.node):
                return
            if held.cancel:
                self._ender.cancelled(
                    held, f"cancelled{by_whom(held)}; Slurm job {job_id} ended as {row.state}", job_id
                )
                return
            cause, message = self._ender.diagnose(held, row, cause, job_id)
            node = row.node or self._last_node(held)
            if cause == "cancelled":
                self._ender.cancelled(held, f"{message}: cancelled outside this dispatcher", job_id)
            elif self._ender.failed(held, cause, message, job_id, node):
                self._place(held, lock)

    def _adopt_claimant(self, entry: Entry, job_id: str) -> bool:
        """A twin of the same submission owns the attempt: follow that one."""
        submission = self._submission(entry)
        claimed = (claimant(submission) or "").partition("_")[0]
        if not claimed or not claimed[0].isdigit() or claimed == job_id.partition("_")[0]:
            return False
        self._journal.handle(submission, claimed, "claim")
        self._handles[submission.token] = (claimed, self._clock())
        return True

    def _last_node(self, entry: Entry) -> str:
        own = [line for line in self._journal.starts(entry.key) if line["attempt"] == entry.attempt.number]
        return str(own[-1]["node"]) if own else ""


def _name(entry: Entry) -> str:
    return str(entry.spec["name"])


def _same_attempt(held: Entry, seen: Entry) -> bool:
    """No other process moved the job on since it was read."""
    return held.state == "live" and (held.attempt.number, held.attempt.token) == (
        seen.attempt.number,
        seen.attempt.token,
    )
