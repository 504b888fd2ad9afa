"""An allocation whose work is done runs, for a while, the follow-ups that are handed to it. Standard library.

    python -P -u -m tasks.slurm.hosting SUBMISSION        (the last line of a job's script, where its stage lingers)

In the folder of the job that owns the allocation stand `allocation.json` (follow-ups are taken) and `guests/NNNN.json`
(each one's submission, in order). The state of a follow-up stands in its own submission's folder. Handing over and
closing happen under one lock, so that nobody is handed to an allocation that has left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks.slurm import files, surroundings

ALLOCATION, LOCK, GUESTS = "allocation.json", "allocation.lock", "guests"
GUEST, STATE, CANCEL = "guest.json", "guest-state.json", "guest-cancel.json"
LINGER, UNTIL, GUEST_ID = "GATED_LINGER", "GATED_UNTIL", "GATED_GUEST"  # variables of the script
ENDS = ("COMPLETED", "FAILED", "CANCELLED")
LOOK_S, KILL_S = 0.5, 30.0


def announce(folder: Path) -> None:
    """Say that this job's allocation takes follow-ups, before anybody hears that the job is done."""
    if not os.environ.get(LINGER):
        return
    content = {
        "slurm_id": surroundings.slurm_id(), "job": os.environ.get("SLURM_JOB_ID", ""),
        "until": float(os.environ[UNTIL]), "at": time.time(),
    }  # fmt: skip
    files.make_folder(folder / GUESTS)
    files.write_json(folder / ALLOCATION, content)


def serve(folder: Path) -> None:
    """Run follow-ups one after another, until none came for as long as the stage says, or the time limit is near."""
    announce(folder)
    linger, until, quiet = float(os.environ[LINGER]), float(os.environ[UNTIL]), time.monotonic()
    while True:
        if guest := waiting(folder):
            _run(guest)
            quiet = time.monotonic()
        elif time.monotonic() - quiet > linger or time.time() > until:
            with files.locked(folder / LOCK):
                if waiting(folder) is None:
                    (folder / ALLOCATION).unlink(missing_ok=True)
                    return
        else:
            time.sleep(LOOK_S)


def waiting(folder: Path) -> dict[str, Any] | None:
    """The first follow-up that has not ended; one that is cancelled before it began ends here."""
    for path in sorted((folder / GUESTS).glob("*.json")):
        guest: dict[str, Any] = files.peek_json(path) or {}
        if not guest:
            continue
        submission = Path(guest["submission"])
        state = files.peek_json(submission / STATE)
        if state is None and (submission / CANCEL).exists():
            _tell(guest, "CANCELLED")
        elif state is None or state["state"] not in ENDS:  # a state that is no end: this allocation was requeued
            return guest
    return None


def _run(guest: dict[str, Any]) -> None:
    """The follow-up's own script, as sbatch would have run it; its srun starts a step of this allocation."""
    submission = Path(guest["submission"])
    inherited = {name: one for name, one in os.environ.items() if not name.startswith("SLURM_ARRAY_")}
    environment = {**inherited, **guest["environment"], GUEST_ID: guest["id"]}
    for name in (LINGER, UNTIL):
        environment.pop(name, None)
    _tell(guest, "RUNNING", started=time.time())
    with (submission / _log_name()).open("ab") as log:
        process = subprocess.Popen(
            ["bash", str(submission / "script.sh")], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment, cwd=submission, start_new_session=True, umask=0o077,
        )  # fmt: skip
        cancelled = _attend(process, submission / CANCEL)
    end = "CANCELLED" if cancelled else "COMPLETED" if process.returncode == 0 else "FAILED"
    _tell(guest, end, exit=process.returncode)


def _attend(process: subprocess.Popen[bytes], cancel: Path) -> bool:
    """Wait for its end; whether it was cancelled: asked to stop first, as scancel does, then killed."""
    asked: float | None = None
    while process.poll() is None:
        time.sleep(LOOK_S)
        number = None
        if asked is None and cancel.exists():
            asked, number = time.monotonic(), signal.SIGTERM
        elif asked is not None and time.monotonic() - asked > KILL_S:
            number = signal.SIGKILL
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
    return asked is not None


def _tell(guest: dict[str, Any], state: str, **fields: Any) -> None:
    content = {"state": state, "log": _log_name(), "at": time.time(), **fields}
    files.write_json(Path(guest["submission"]) / STATE, content)


def _log_name() -> str:
    """As the script's own srun names it."""
    return f"{os.environ.get('SLURM_JOB_ID', '')}_0_log.out"


def main(arguments: list[str]) -> int:
    """Entry point: the submission whose member this job was."""
    order = files.peek_json(Path(arguments[0]) / "submission.json")
    member = order["members"][int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)]
    serve(Path(member["folder"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
