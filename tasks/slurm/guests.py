"""Follow-ups in an allocation that still stands: one wait in the queue for a training and what comes after it.

A job that is submitted `inside` another one, with a stage that says `allocation: shared`, is handed to that job's
allocation if it is there, has room and time enough; everything else goes to Slurm as ever. Its id is the allocation's
with a number ("812+1"); its row is read from what the allocation writes (`hosting`). An allocation that ends takes its
follow-ups along: they are run again as jobs of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import files
from tasks.slurm.entries import Submission
from tasks.slurm.hosting import ALLOCATION, CANCEL, ENDS, GUEST, GUESTS, LOCK, STATE
from tasks.slurm.profiles import Profile
from tasks.slurm.resources import Resources
from tasks.slurm.scheduler import Answer, Controller, Memory, Reply, Scheduler, View
from tasks.slurm.states import Row, Verdict, meaning

MARK = "+"
LOCK_S = 10.0


class Guests:
    """A scheduler around Slurm's."""

    def __init__(
        self,
        slurm: Scheduler,
        profile: Profile,
        root: Path,
        folder_of: Callable[[str], Path],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._slurm, self._profile, self._folder_of, self._clock = slurm, profile, folder_of, clock
        self._submissions = root / "submissions"

    # -- writing
    def order(self, submission: Submission, environment: dict[str, str], lock: int) -> Answer:
        """Into the allocation of the job that it follows, else one sbatch."""
        (submission.folder / GUEST).unlink(missing_ok=True)
        host = self._host(submission)
        found = self._hand_over(submission, environment, host) if host else None
        return Answer(Reply.ACCEPTED, found) if found else self._slurm.order(submission, environment, lock)

    def _host(self, submission: Submission) -> Path | None:
        """Folder of the job whose allocation can take it."""
        section = self._profile.section(submission.stage)
        if section.allocation != "shared" or submission.array:
            return None
        key = (files.peek_json(Path(submission.members[0]["folder"]) / "journal.json") or {}).get("inside")
        if not key:
            return None
        folder = self._folder_of(key)
        there, owner = files.peek_json(folder / ALLOCATION), files.peek_json(folder / "journal.json")
        if not there or not owner or there["until"] - self._clock() < section.time_seconds:
            return None
        room = fits(section, self._profile.section(owner["spec"]["stage"]))
        return folder if room and self._stands(there) else None

    def _stands(self, there: dict[str, Any]) -> bool:
        """Whether the queue still shows the allocation, or has not been looked at since it spoke."""
        view = self._slurm.view([])
        row = view.rows.get(there["slurm_id"]) if view else None
        if row is None:
            return view is not None and there["at"] > view.at
        return meaning(row.state).verdict in (Verdict.WAITING, Verdict.RUNNING)

    def _hand_over(self, submission: Submission, environment: dict[str, str], host: Path) -> str | None:
        """Its id; None where the allocation has left meanwhile."""
        try:
            with files.locked(host / LOCK, timeout_s=LOCK_S):
                there = files.peek_json(host / ALLOCATION)
                if not there:
                    return None
                number = 1 + sum(1 for _ in (host / GUESTS).glob("*.json"))
                own = {"id": f"{there['job']}{MARK}{number}", "slurm_id": there["slurm_id"], "at": self._clock()}
                post = host / GUESTS / f"{number:04d}.json"
                files.write_bytes(submission.reply, b"", durable=False)  # from here on, a crash means doubt
                files.write_json(submission.folder / GUEST, {**own, "post": str(post)})
                files.write_json(post, {**own, "submission": str(submission.folder), "environment": environment})
        except TimeoutError:
            return None
        files.write_bytes(submission.reply, own["id"].encode())
        return str(own["id"])

    def recall(self, submission: Submission) -> Answer | None:
        """What the handing over left, else what sbatch did."""
        guest = files.peek_json(submission.folder / GUEST)
        if guest is None:
            return self._slurm.recall(submission)
        if Path(guest["post"]).exists():
            return Answer(Reply.ACCEPTED, str(guest["id"]))
        return Answer(Reply.DOUBTFUL, text="not handed over")

    def cancel(self, ids: Sequence[str]) -> None:
        """A follow-up is asked to end by a file that its allocation looks for."""
        mine = {one for one in ids if MARK in one}
        if others := [one for one in ids if one not in mine]:
            self._slurm.cancel(others)
        for path in self._submissions.glob(f"*/{GUEST}") if mine else ():
            if (files.peek_json(path) or {}).get("id") in mine:
                files.write_json(path.with_name(CANCEL), {"at": self._clock()}, durable=False)

    def release(self, slurm_id: str) -> None:
        """A follow-up is held by nothing but the one before it."""
        if MARK not in slurm_id:
            self._slurm.release(slurm_id)

    def exclude(self, slurm_id: str, nodes: Sequence[str]) -> bool:
        """A follow-up runs where its allocation is."""
        return MARK not in slurm_id and self._slurm.exclude(slurm_id, nodes)

    # -- reading
    def view(self, submissions: Iterable[Submission]) -> View | None:
        """The queue, and a row for each of `submissions` that was handed over."""
        asked = list(submissions)
        view = self._slurm.view(asked)
        shared = [one for one in asked if self._profile.section(one.stage).allocation == "shared"]
        rows = [row for one in shared if view is not None and (row := _row(one, view)) is not None]
        if view is None or not rows:
            return view
        return View.of(view.at, {**view.rows, **{row.id: row for row in rows}}, view.whole)

    def remember(self, what: Sequence[str], since: float) -> dict[str, Memory]:
        """Slurm's accounting has never heard of a follow-up."""
        others = [one for one in what if MARK not in one]
        known = self._slurm.remember(others, since) if others else {}
        return {one: Memory(absent=True) if MARK in one else known[one] for one in what}

    def controller(self) -> Controller | None:
        """Slurm's."""
        return self._slurm.controller()

    def cluster(self) -> str:
        """Slurm's."""
        return self._slurm.cluster()

    def max_array_size(self) -> int:
        """Slurm's."""
        return self._slurm.max_array_size()

    def log(self, submission: Submission, index: int, slurm_id: str) -> Path:
        """As its script's srun named it, inside the allocation."""
        if MARK not in slurm_id:
            return self._slurm.log(submission, index, slurm_id)
        return submission.folder / f"{slurm_id.partition(MARK)[0]}_0_log.out"


def fits(section: Resources, host: Resources) -> bool:
    """Whether an allocation of `host` has what a job of `section` asks for."""
    memory, there = section.memory_bytes, host.memory_bytes
    enough = memory is None or there is None or memory <= there
    return enough and section.cpus <= host.cpus and section.gpus <= host.gpus and section.nodes == 1


def _row(submission: Submission, view: View) -> Row | None:
    """The row of a job that was handed over, as its allocation tells it; None for any other."""
    guest = files.peek_json(submission.folder / GUEST)
    if guest is None or not Path(guest["post"]).exists():
        return None
    told = files.peek_json(submission.folder / STATE) or {"state": "PENDING"}
    host, state = view.rows.get(guest["slurm_id"]), told["state"]
    if state not in ENDS:
        verdict = meaning(host.state).verdict if host else Verdict.UNKNOWN
        if verdict in (Verdict.WAITING, Verdict.SETTLING):
            state = "PENDING"  # its allocation will start again
        elif verdict is Verdict.ENDED or (host is None and view.whole and view.at > guest["at"]):
            told = files.peek_json(submission.folder / STATE) or told  # it may have ended just before
            state = told["state"] if told["state"] in ENDS else "PREEMPTED"
    node = host.node if host else ""
    return Row(
        guest["id"], submission.token, state, node, reason="Dependency" if state == "PENDING" else "None",
        submitted=guest["at"], started=told.get("started"), exit_code=str(told.get("exit", "")),
    )  # fmt: skip
