"""The same door without Slurm: a detached keeper process a submission plays the node (see `local_node`)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from tasks.slurm import faults, files
from tasks.slurm.entries import Submission
from tasks.slurm.profiles import Profile
from tasks.slurm.scheduler import Answer, Controller, Memory, Reply, View
from tasks.slurm.states import Row


class Local:
    """Scheduler over detached processes of this machine. Ids are "L<pid>-<start>", array tasks "L..._<index>"."""

    def __init__(self, profile: Profile, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._profile, self._clock = profile, clock
        self._submissions = root / "submissions"

    def order(self, submission: Submission, environment: dict[str, str], lock: int) -> Answer:
        """Start the keeper; it writes its own id, so that its caller may die at any time."""
        files.write_bytes(submission.reply, b"", durable=False)  # from here on, a crash means doubt
        section = self._profile.section(submission.stage)
        limits = {
            "parallel": self._profile.max_parallel or 1,
            "seconds": section.time_seconds,
            "warning": section.signal_seconds,
        }
        files.write_json(submission.folder / "local.json", limits)
        arguments = [self._profile.interpreter, "-P", "-u", "-m", "tasks.slurm.local_node", str(submission.folder)]
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment, "GATED_SUBMISSION": submission.token, "GATED_LOCK": str(lock)},
            pass_fds=(lock,),  # held until the keeper has written its id
            start_new_session=True,
            umask=0o077,
        )
        faults.reach("during_sbatch")
        found = self._await_reply(submission, process)
        return Answer(Reply.ACCEPTED, found) if found else Answer(Reply.DOUBTFUL, text="the keeper did not start")

    def _await_reply(self, submission: Submission, process: subprocess.Popen[bytes]) -> str | None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if found := submission.reply.read_text().strip():
                return found
            if process.poll() is not None:
                break
            time.sleep(0.01)
        return submission.reply.read_text().strip() or None

    def recall(self, submission: Submission) -> Answer | None:
        """The keeper's id, if one was started."""
        if not submission.reply.exists():
            return None
        found = submission.reply.read_text().strip()
        return Answer(Reply.ACCEPTED, found) if found else Answer(Reply.DOUBTFUL, text="no keeper wrote its id")

    def view(self, submissions: Iterable[Submission]) -> View | None:
        """Rows of the given submissions; always new, for looking costs nothing here."""
        now = self._clock()
        rows: dict[str, Row] = {}
        for submission in submissions:
            keeper = submission.slurm_id() or (self.recall(submission) or Answer(Reply.DOUBTFUL)).slurm_id
            if keeper:
                alive = keeper_process(keeper) is not None
                for index in range(len(submission.members)):
                    row = self._row(submission, index, keeper, alive)
                    rows[row.id] = row
        return View.of(now, rows)

    def _row(self, submission: Submission, index: int, keeper: str, alive: bool) -> Row:
        job_id = submission.member_id(index, keeper)
        record = files.peek_json(submission.folder / f"state-{index}.json") or {"state": "PENDING"}
        state = record["state"]
        if not alive and state in ("PENDING", "RUNNING"):
            # the keeper writes an end before it leaves: look again, then it was killed
            record = files.peek_json(submission.folder / f"state-{index}.json") or record
            state = "FAILED" if record["state"] == "RUNNING" else record["state"]
            state = "LAUNCH_FAILED" if state == "PENDING" else state
        return Row(job_id, submission.token, state, os.uname().nodename, started=record.get("started"))

    def remember(self, what: Sequence[str], since: float) -> dict[str, Memory]:
        """There is no accounting here; the keeper's own records are in the view."""
        return {one: Memory(absent=True) for one in what}

    def cancel(self, ids: Sequence[str]) -> None:
        """Tell the keepers; one that is gone leaves its children to be ended here."""
        for job_id in ids:
            keeper, _, index = job_id.partition("_")
            for folder in self._folders(keeper):
                files.write_json(folder / f"cancel-{index or 0}.json", {"at": self._clock()}, durable=False)
            if keeper_process(keeper) is None:
                self._end_orphans(keeper)

    def _folders(self, keeper: str) -> list[Path]:
        return [path.parent for path in self._submissions.glob("*/reply.txt") if path.read_text().strip() == keeper]

    def _end_orphans(self, keeper: str) -> None:
        for folder in self._folders(keeper):
            for child in psutil.process_iter(["environ"]):
                if (child.info["environ"] or {}).get("GATED_SUBMISSION") == folder.name:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()

    def release(self, slurm_id: str) -> None:
        """Nothing is held here."""

    def exclude(self, slurm_id: str, nodes: Sequence[str]) -> bool:
        """One machine: nowhere else to go."""
        return False

    def controller(self) -> Controller | None:
        """There is none."""
        return None

    def cluster(self) -> str:
        """There is none."""
        return ""

    def max_array_size(self) -> int:
        """No limit."""
        return 1 << 30

    def log(self, submission: Submission, index: int, slurm_id: str) -> Path:
        """Written by the keeper."""
        return submission.folder / f"log_{index}.out"


def keeper_process(keeper: str) -> psutil.Process | None:
    """The live process behind an id, None once it has ended; a recycled pid is told apart by its start time."""
    pid, _, started = keeper.removeprefix("L").partition("-")
    try:
        process = psutil.Process(int(pid))
        same = f"{process.create_time():.0f}" == started
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.NoSuchProcess, ValueError):
        return None
