"""How an attempt ended, and what follows: diagnosis, remedy, outcome."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from tasks.slurm import accounting, files, remedies, results
from tasks.slurm.entries import Attempt, Entry
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import Profile
from tasks.slurm.remedies import Adjustments
from tasks.slurm.scheduler import Scheduler
from tasks.slurm.specs import JobSpec, Outcome
from tasks.slurm.states import Row
from tasks.slurm.watching import last_lines

# what slurmstepd and the kernel write when memory ran out; Slurm's state then often says FAILED
_MEMORY = re.compile(r"oom[-_ ]kill|exceeded .*memory limit|out of memory: killed", re.IGNORECASE)

# reasons of a stop that are causes of a failure, not of an interruption
_FINAL = ({*remedies.TABLE} | {*remedies.NO_RETRY}) - {"interrupted", "time_limit"}
MOST_RELEASES = 2  # of one Slurm job that is held after a failed launch; then the next attempt is another job

_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


class Ender:
    """Ends attempts in the journal; the methods that write expect the caller to hold the journal's lock."""

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

    # -- diagnosis
    def diagnose(self, entry: Entry, row: Row, cause: str, slurm_id: str) -> tuple[str, str]:
        """Refine the cause a Slurm state gives by what the job left behind; (cause, message)."""
        log = last_lines(self.log(entry, slurm_id))
        own = [line for line in self._journal.starts(entry.key) if line["attempt"] == entry.attempt.number]
        stops = [line for line in own if line["event"] == "stop"]
        message = f"Slurm job {slurm_id} ended as {row.state}" + (f" on {row.node}" if row.node else "")
        if cause == "cancelled" and entry.attempt.releases > MOST_RELEASES:
            return "launch_failed", f"Slurm job {slurm_id} could not be started: launch failed requeued held, again"
        if cause == "cancelled":
            never = not any(line["event"] == "start" for line in own)
            return ("dependency" if entry.after and never else "cancelled"), message
        told = stops[-1] if stops and stops[-1]["incarnation"] == own[-1]["incarnation"] else None
        if told and told["reason"] in _FINAL:  # the runner knew; only its marker is missing
            return told["reason"], told.get("message") or _with_log(message, log)
        if cause in ("killed", "launch_failed") and _MEMORY.search(log):
            return "oom", _with_log(message, log)
        if cause in ("killed", "launch_failed") and (_FULL.search(log) or self._no_room()):
            return "disk_full", _with_log(f"no space left on the disk of {self._journal.root}; {message}", log)
        if cause == "killed" and not own:
            return "launch_failed", _with_log(f"{message} before the job began", log)
        if cause in ("killed", "overran") and told:
            cause = "time_limit" if told["reason"] == "time_limit" or cause == "overran" else "interrupted"
        return cause, _with_log(message, log)

    def _no_room(self) -> bool:
        """Whether the disk of the jobs is full, in bytes or in files: then a node could not even write its log."""
        try:
            disk = os.statvfs(self._journal.root)
        except OSError:
            return False
        return disk.f_bavail == 0 or (disk.f_files > 0 and disk.f_favail == 0)

    def log(self, entry: Entry, slurm_id: str) -> Any:
        """File with the output of the newest attempt."""
        submission = self._journal.submission(entry.attempt.token)
        return self._scheduler.log(submission, entry.attempt.index, slurm_id)

    # -- ends
    def certify(self, entry: Entry, slurm_id: str, node: str) -> bool:
        """A whole result without its marker (the node died in between) becomes a marker; False without a result."""
        found = results.read_result(self._journal.folder(entry.key))
        if found is None or found.attempt not in {one.number for one in entry.attempts}:
            return False
        number, folder = entry.attempt.number, self._journal.folder(entry.key)
        marker = results.marker(number, "done", "", "", found.file_sha256, slurm_id, node)
        files.write_json(folder / f"marker-{number}.json", {**marker, "at": self._clock()})
        return True

    def done(self, entry: Entry, slurm_id: str) -> None:
        """The marker is there: the job is done."""
        self._close(entry, "done", "", "", slurm_id, "")
        self._tell("done", entry, slurm_id=slurm_id)

    def cancelled(self, entry: Entry, message: str, slurm_id: str) -> None:
        """Cancelled, by us or by hand: stays so."""
        self._close(entry, "cancelled", "cancelled", message, slurm_id, "")
        self._tell("cancelled", entry, slurm_id=slurm_id, text=message)

    def cancelled_unplaced(self, entry: Entry) -> None:
        """Cancelled before it came into the queue."""
        self.cancelled(entry, f"cancelled before it was submitted{by_whom(entry)}", "")

    def give_up(self, entry: Entry, cause: str, message: str) -> None:
        """Failed for good, whatever the remedy table says."""
        self._close(entry, "failed", cause, message, "", "")
        self._tell("failed", entry, cause=cause, text=message)

    def tell_restarts(self, entry: Entry, slurm_id: str) -> None:
        """Slurm's own requeues are remedies inside one attempt, and audited as such."""
        self._write(entry, slurm_id)

    def _write(self, entry: Entry, slurm_id: str) -> None:
        """Keep the entry, then tell of the restarts that it counts: a write that fails is tried again untold."""
        fresh = self._count_restarts(entry)
        self._journal.write(entry)
        self._tell_each(entry, fresh, slurm_id)

    def _count_restarts(self, entry: Entry) -> list[tuple[str, str]]:
        found = restarts(self._journal.starts(entry.key), entry.attempt.number)
        fresh, entry.attempt.restarts_told = found[entry.attempt.restarts_told :], len(found)
        return fresh

    def _tell_each(self, entry: Entry, fresh: Sequence[tuple[str, str]], slurm_id: str) -> None:
        for cause, node in fresh:
            action = f"requeued: {remedies.TABLE[cause].action}"
            self._tell("remedy", entry, cause=cause, action=action, node=node, slurm_id=slurm_id)

    def leave_out(self, entry: Entry, nodes: Sequence[str], slurm_id: str) -> None:
        """Keep the attempt's next start away from nodes that failed it twice. Does not write the entry."""
        entry.attempt.exclude = list(nodes)
        self._tell("excluded", entry, cause="failed twice", exclude=list(nodes), slurm_id=slurm_id)

    def failed(self, entry: Entry, cause: str, message: str, slurm_id: str, node: str) -> bool:
        """End the newest attempt; True when a remedy opened another one, which is still to be placed."""
        entry.attempt.end = {"cause": cause, "node": node, "slurm_id": slurm_id, "at": self._clock()}
        past = [(one.end["cause"], one.end["node"]) for one in entry.round() if one.end]
        decision = remedies.decide(past, Adjustments(**entry.attempt.adjustments))
        if decision is None:
            self._close(entry, "failed", cause, message, slurm_id, node)
            self._tell("failed", entry, cause=cause, slurm_id=slurm_id, node=node, text=message)
            return False
        entry.message = message
        memory = self._profile.section(entry.spec["stage"]).more_memory(entry.attempt.memory_bytes)
        if cause == "oom" and memory is not None:  # rather than a smaller batch, which changes what is trained
            more = f"memory raised to {memory >> 20} MB"
            decision = dataclasses.replace(decision, action=more, adjustments=Adjustments(**entry.attempt.adjustments))
        next_one = Attempt(
            number=entry.attempt.number + 1,
            created=self._clock(),
            memory_bytes=(memory if cause == "oom" else None) or entry.attempt.memory_bytes,
            adjustments=decision.adjustments.to_json(),
            exclude=sorted({*entry.attempt.exclude, *decision.exclude}),
            remedy=f"{cause}: {decision.action}",
        )
        fresh, ended = self._count_restarts(entry), copy.copy(entry)
        entry.attempts = [*entry.attempts, next_one]
        self._journal.write(entry)  # told once it is on disk: a write that fails is tried again
        self._tell_each(ended, fresh, slurm_id)
        self._tell(
            "remedy",
            ended,
            cause=cause,
            action=decision.action,
            adjustments=next_one.adjustments,
            exclude=next_one.exclude,
            slurm_id=slurm_id,
            node=node,
        )
        return True

    def _close(self, entry: Entry, state: str, cause: str, message: str, slurm_id: str, node: str) -> None:
        entry.attempt.end = {"cause": cause, "node": node, "slurm_id": slurm_id, "at": self._clock()}
        entry.state, entry.cause, entry.message, entry.ended = state, cause, message, self._clock()
        self._write(entry, slurm_id)

    def _remedies(self, entry: Entry) -> tuple[str, ...]:
        lines = self._journal.starts(entry.key)
        found = []
        for one in entry.round():
            found += [one.remedy] if one.remedy else []
            found += [f"{cause}: requeued" for cause, _ in restarts(lines, one.number)]
        return tuple(found)

    # -- outcome
    def result(self, entry: Entry) -> dict[str, Any] | None:
        """The certified result of a done job."""
        if self._journal.marker(entry) is None:
            files.refresh(self._journal.folder(entry.key))  # another host saw it: this one may remember its absence
            if self._journal.marker(entry) is None:
                return None
        found = results.read_result(self._journal.folder(entry.key))
        return found.value if found else None

    def outcome(self, entry: Entry, history: Sequence[Row] = (), *, reused: bool = False) -> Outcome:
        """The outcome of an ended entry."""
        folder = self._journal.folder(entry.key)
        ids = tuple(one.end["slurm_id"] for one in entry.round() if one.end and one.end["slurm_id"])
        row = accounting.row_of(
            entry,
            self._profile.section(entry.spec["stage"]),
            self._journal.starts(entry.key),
            files.peek_json(folder / "usage.json"),
            ids,
            history,
        )
        return Outcome(
            spec=JobSpec(**entry.spec),
            key=entry.key,
            state=entry.state,  # type: ignore[arg-type]
            result=self.result(entry) if entry.state == "done" else None,
            cause=entry.cause,
            message=entry.message if entry.state != "done" else "",
            attempts=len(entry.round()),
            remedies=self._remedies(entry),
            accounting=row,
            slurm_ids=ids,
            folder=folder / "work",
            reused=reused,
        )


def restarts(lines: Sequence[dict[str, Any]], attempt: int, *, waiting: bool = False) -> list[tuple[str, str]]:
    """(cause, node) of every run of an attempt that another run of the same attempt followed, oldest first.

    With `waiting`, the job is back in the queue: its newest run is over as well.
    """
    own = [line for line in lines if line["attempt"] == attempt]
    begun = [line for line in own if line["event"] == "start"]
    stops = {line["incarnation"]: line["reason"] for line in own if line["event"] == "stop"}
    ended = begun if waiting else begun[:-1]
    causes = {"time_limit": "time_limit", "terminated": "preempted", "superseded": "node_fail"}
    return [(causes.get(stops.get(line["incarnation"], ""), "node_fail"), line["node"]) for line in ended]


def by_whom(entry: Entry) -> str:
    """Who cancelled, and why, where that is on record."""
    request = entry.cancel or {}
    why = f": {request['why']}" if request.get("why") else ""
    return f" by {request['by']}{why}" if request.get("by") else ""


def _with_log(message: str, log: str) -> str:
    return f"{message}\n{log[-4000:]}".rstrip()
