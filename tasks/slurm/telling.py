"""What a waiter is told of its jobs: state, place and numbers as they change, log lines, restarts, the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from tasks.slurm import files
from tasks.slurm.ending import Ender, restarts
from tasks.slurm.entries import Entry
from tasks.slurm.shared import log
from tasks.slurm.specs import Job, Outcome
from tasks.slurm.states import Row
from tasks.slurm.watching import Stamped, Tail

SKEW_SECONDS = 60.0  # clocks of this machine, the nodes and the controller may differ by this much
Locked = Callable[[Entry], AbstractContextManager[tuple[Entry | None, int]]]


@dataclass
class Watch:
    """What one waiter remembers of one job between two looks."""

    job: Job
    on_progress: Callable[[Job, dict[str, Any]], None] | None = None
    on_log: Callable[[Job, str], None] | None = None
    tail: Tail = field(default_factory=Tail)
    journal: Stamped = field(default_factory=Stamped)
    progress: Stamped = field(default_factory=Stamped)
    starts: Stamped = field(default_factory=lambda: Stamped(files.read_lines))
    shown: dict[str, Any] = field(default_factory=dict)
    state: str = ""
    state_since: float = 0.0
    missing_since: float | None = None
    followed: str = ""  # Slurm id that state and absence are about
    seen_live: bool = False
    insisted: float = 0.0
    reason: str = ""  # why it waits, as last seen
    reason_since: float = 0.0
    told: set[str] = field(default_factory=set)  # reasons of this Slurm job that were told
    unread: str = ""  # what of it could last not be read, and why
    waited: float | None = None  # when the queue last showed it waiting, and nothing since
    submitted: float | None = None  # by the controller's clock

    def begun(self) -> list[dict[str, Any]]:
        """Start and stop records that the node left."""
        return self.starts.read(self.job.folder / "starts.jsonl") or []

    def published(self) -> dict[str, Any]:
        """The job's own numbers; none where they cannot be read."""
        with self.courtesy():
            found = self.progress.read(self.job.folder / "progress.json")
            return dict(found["fields"]) if found else {}
        return {}

    @contextlib.contextmanager
    def courtesy(self) -> Iterator[None]:
        """What is read only to be shown costs, where it cannot be, a warning: it decides nothing."""
        try:
            yield
        except OSError as error:
            if str(error) != self.unread:
                log.warning("%s is not shown: %s", self.job.name, error)
            self.unread = str(error)

    def show(self, fields: dict[str, Any]) -> None:
        """Tell `on_progress`."""
        self._call(self.on_progress, fields)

    def say(self, text: str) -> None:
        """Tell `on_log`; PostgreSQL takes no text with a NUL in it."""
        self._call(self.on_log, text.replace("\0", "\\0"))

    def _call(self, listener: Callable[[Job, Any], None] | None, value: Any) -> None:
        try:
            if listener is not None:
                listener(self.job, value)
        except Exception:  # who listens must not decide what happens to the job
            log.exception("what %s shows was not taken", self.job.name)


class Teller:
    """Tells the listeners of a watch."""

    def __init__(self, ender: Ender, locked: Locked, clock: Callable[[], float] = time.time) -> None:
        self._ender, self._locked, self._clock = ender, locked, clock

    def seen(self, watch: Watch, entry: Entry, row: Row | None, job_id: str, at: float) -> None:
        self.follow_log(watch, entry, job_id)
        if watch.on_progress is None:
            return
        row = node_says(watch, entry, job_id, at, self._clock()) or row or Row(job_id, entry.attempt.token, "SUBMITTED")
        seen = {
            "state": row.state,
            "reason": row.reason if row.state == "PENDING" else "",
            "node": row.node,
            "attempt": entry.attempt.number,
            "slurm_id": job_id,
            **watch.published(),
        }
        if seen != watch.shown:
            watch.shown = seen
            elapsed = self._clock() - row.started if row.started and row.state != "PENDING" else 0.0
            watch.show({**seen, "elapsed_s": round(max(0.0, elapsed), 1)})

    def unplaced(self, watch: Watch, entry: Entry) -> None:
        """Not in the queue: for want of a place, or put off by the site, whose words are the reason."""
        one = entry.attempt
        state = "HELD" if one.held_until else "WAITING"
        seen = {"state": state, "reason": one.said, "node": "", "attempt": one.number, "slurm_id": ""}
        if watch.on_progress is not None and seen != watch.shown:
            watch.shown = seen
            watch.show({**seen, "elapsed_s": 0.0})

    def end(self, watch: Watch, outcome: Outcome) -> None:
        """How it ended, with the last numbers that the job published: it may have ended between two looks."""
        if watch.on_progress is None:
            return
        row = outcome.accounting
        seen = {"node": row["nodes"], "attempt": outcome.attempts, "slurm_id": row["slurm_ids"].rpartition(" ")[2]}
        fields = {**watch.shown, **seen, **watch.published(), "reason": outcome.cause}
        watch.show({**fields, "state": outcome.state, "elapsed_s": row["elapsed_s"]})

    def follow_log(self, watch: Watch, entry: Entry, job_id: str, *, last_time: bool = False) -> None:
        if watch.on_log is None:
            return
        text = ""
        with watch.courtesy():
            text = watch.tail.read(self._ender.log(entry, job_id), last=last_time)
        if text:
            watch.say(text)

    def restarts(self, watch: Watch, entry: Entry, job_id: str) -> None:
        """Slurm's own requeues are remedies too, and audited as such."""
        if len(restarts(watch.begun(), entry.attempt.number)) <= entry.attempt.restarts_told:
            return
        with self._locked(entry) as (held, _):
            if held is not None:
                self._ender.tell_restarts(held, job_id)


def node_says(watch: Watch, entry: Entry, job_id: str, at: float, now: float) -> Row | None:
    """A start that the node recorded after the queue was looked at; a node whose clock is far ahead says nothing."""
    own = [line for line in watch.begun() if line["attempt"] == entry.attempt.number]
    if own and own[-1]["event"] == "start" and at < own[-1]["at"] < now + SKEW_SECONDS:
        return Row(job_id, entry.attempt.token, "RUNNING", own[-1]["node"], started=own[-1]["at"])
    return None
