"""The keeper of a local submission: waits for a free place, runs its members, records how each ended.

Started detached by `local`, it outlives the dispatcher, as a node would. It writes its id to reply.txt, a
`state-I.json` a member, and ends a member whose `cancel-I.json` appears or whose time is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks.slurm import files

TICK_S = 0.1
KILL_WAIT_S = 5.0


class Keeper:
    """Runs the members of one submission, at most `parallel` at a time over all keepers of the root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        order = files.peek_json(folder / "submission.json")
        limits = files.peek_json(folder / "local.json")
        self.members: list[dict[str, Any]] = order["members"]
        self.parallel, self.seconds, self.warning = limits["parallel"], limits["seconds"], limits["warning"]
        self.slots = files.make_folder(folder.parents[1] / "slots")
        self.running: dict[int, _Child] = {}

    def run(self) -> None:
        """Until every member has ended."""
        waiting = list(range(len(self.members)))
        for index in waiting:
            self._state(index, "PENDING")
        files.write_bytes(self.folder / "reply.txt", f"{own_id()}\n".encode())
        if lock := os.environ.pop("GATED_LOCK", ""):
            os.close(int(lock))
        while waiting or self.running:
            for index in [one for one in waiting if self._cancelled(one)]:
                waiting.remove(index)
                self._state(index, "CANCELLED")
            if waiting and (slot := self._free_slot()) is not None:
                index = waiting.pop(0)
                self.running[index] = self._start(index, slot)
            for index, child in list(self.running.items()):
                self._watch(index, child)
            time.sleep(TICK_S if self.running else TICK_S / 2)

    def _free_slot(self) -> int | None:
        for number in range(self.parallel):
            descriptor = os.open(self.slots / str(number), os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                os.close(descriptor)
        return None

    def _start(self, index: int, slot: int) -> _Child:
        log = os.open(self.folder / f"log_{index}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.PRIVATE_FILE)
        arguments = [sys.executable, "-P", "-u", "-m", "tasks.slurm.runner", str(self.folder), str(index)]
        suffix = f"_{index}" if files.peek_json(self.folder / "submission.json")["array"] else ""
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "GATED_LOCAL_ID": f"{own_id()}{suffix}"},
            pass_fds=(slot,),  # a runner that outlives its keeper still takes up its place
        )
        os.close(log)
        self._state(index, "RUNNING", started=time.time())
        return _Child(process, slot, time.monotonic())

    def _watch(self, index: int, child: _Child) -> None:
        status = child.process.poll()
        if status is not None:
            del self.running[index]
            os.close(child.slot)
            self._state(index, child.verdict or ("COMPLETED" if status == 0 else "FAILED"), status=status)
            return
        age = time.monotonic() - child.started
        if child.verdict is None and self._cancelled(index):
            child.end("CANCELLED", signal.SIGTERM)
        elif child.verdict is None and self.seconds and age > self.seconds:
            child.end("TIMEOUT", signal.SIGTERM)
        elif not child.warned and self.seconds and age > self.seconds - self.warning:
            child.warned = True
            child.process.send_signal(signal.SIGUSR2)
        elif child.ending and time.monotonic() - child.ending > KILL_WAIT_S:
            child.process.kill()

    def _cancelled(self, index: int) -> bool:
        return (self.folder / f"cancel-{index}.json").exists()

    def _state(self, index: int, state: str, **fields: Any) -> None:
        path = self.folder / f"state-{index}.json"
        files.write_json(path, {**(files.peek_json(path) or {}), "state": state, **fields}, durable=False)


class _Child:
    def __init__(self, process: subprocess.Popen[bytes], slot: int, started: float) -> None:
        self.process, self.slot, self.started = process, slot, started
        self.verdict: str | None = None
        self.ending: float | None = None
        self.warned = False

    def end(self, verdict: str, number: signal.Signals) -> None:
        self.verdict, self.ending = verdict, time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


def own_id() -> str:
    """ "L<pid>-<start time>" of this process, as `local.keeper_process` reads it."""
    import psutil

    return f"L{os.getpid()}-{psutil.Process().create_time():.0f}"


if __name__ == "__main__":
    Keeper(Path(sys.argv[1])).run()
