"""A Slurm that does what the real one cannot be made to do: lie, lag, forget, at a chosen moment, on a chosen clock.

Stands in for the programs (`tasks.slurm.commands.Commands`), prints what they print, and keeps its state in a file, so
that several processes, some of them killed, share one cluster. With `execute` an accepted job really runs: a fork
calls the runner as srun would.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.slurm import faults
from tasks.slurm.commands import Exit

TIMEOUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
ACTIVE = ("PENDING", "RUNNING")


class FakeSlurm:
    def __init__(
        self, folder: Path, *, execute: bool = False, clock: Callable[[], float] = time.time, crash: str = ""
    ) -> None:
        self.folder, self.execute, self.clock, self.crash = folder, execute, clock, crash
        folder.mkdir(parents=True, exist_ok=True)
        self.calls: list[list[str]] = []

    # -- state
    @contextmanager
    def state(self) -> Iterator[dict[str, Any]]:
        path = self.folder / "state.json"
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh: dict[str, Any] = {"next": 1, "jobs": {}, "knobs": {}}
            state = json.loads(path.read_text()) if path.exists() else fresh
            yield state
            path.with_suffix(".tmp").write_text(json.dumps(state))
            path.with_suffix(".tmp").replace(path)

    def knob(self, **values: Any) -> None:
        """Change how it behaves.

        lie=N: the next N submissions are accepted but report an error; squeue, sacct, sbatch = "down" (with an error),
        "garbled", "forgets"; refuse=text: sbatch's refusal, with refuse_name=text of such
        scripts alone; late=seconds: accepted jobs appear that much later;
        strangers=[(id, name)]: rows of the same user that no dispatcher made.
        """
        with self.state() as state:
            state["knobs"].update(values)

    def jobs(self) -> dict[str, dict[str, Any]]:
        with self.state() as state:
            return dict(state["jobs"])

    def set(self, job_id: str, state: str, **fields: Any) -> None:
        with self.state() as cluster:
            cluster["jobs"][job_id].update(state=state, **fields)

    def forget(self, job_id: str) -> None:
        """Older than MinJobAge: squeue no longer lists it."""
        self.set(job_id, self.jobs()[job_id]["state"], forgotten=True)

    # -- the programs
    def sbatch(self, script: Path, reply: Path, environment: dict[str, str], lock: int) -> Exit:
        self.calls.append(["sbatch", str(script)])
        os.close(os.open(reply, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        if self.crash == "before":
            faults.reach("during_sbatch")
        with self.state() as state:
            knobs = state["knobs"]
            if knobs.get("sbatch") == "down":
                return Exit(1, "", "sbatch: error: Unable to contact slurm controller (connect failure)")
            if knobs.get("refuse") and knobs.get("refuse_name", "") in script.read_text():
                return Exit(1, "", knobs["refuse"])
        if self.crash == "survivor":
            if os.fork() == 0:  # sbatch goes on by itself, holding the inherited lock, while its caller dies
                time.sleep(0.02)
                reply.write_text(f"{self._accept(script, environment)}\n")
                os._exit(0)
            faults.reach("during_sbatch")
        number = self._accept(script, environment)
        if self.crash == "after":
            faults.reach("during_sbatch")
        with self.state() as state:
            if state["knobs"].get("lie", 0) > 0:
                state["knobs"]["lie"] -= 1
                return Exit(1, "", state["knobs"].get("lie_text", TIMEOUT))
        reply.write_text(f"{number}\n")
        return Exit(0, f"{number}\n", "")

    def _accept(self, script: Path, environment: dict[str, str]) -> str:
        text = script.read_text()
        name = re.search(r"--job-name=(\S+)", text)[1].strip("'")  # type: ignore[index]
        comment = re.search(r"--comment=(\S+)", text)
        tasks = re.search(r"--array=0-(\d+)", text)
        with self.state() as state:
            number = str(state["next"])
            state["next"] += 1
            ids = [f"{number}_{index}" for index in range(int(tasks[1]) + 1)] if tasks else [number]
            for job_id in ids:
                state["jobs"][job_id] = {
                    "name": name,
                    "state": "PENDING",
                    "script": str(script),
                    "appears": self.clock() + state["knobs"].get("late", 0.0),
                    "submitted": self.clock(),
                    "environment": environment,
                    "comment": comment[1].strip("'") if comment else "(null)",
                }
        for job_id in ids:
            if self.execute:
                self.launch(job_id)
        return number

    def run(self, arguments: Sequence[str]) -> Exit:
        self.calls.append(list(arguments))
        return getattr(self, f"_{arguments[0]}")(list(arguments))

    def _squeue(self, _: list[str]) -> Exit:
        with self.state() as state:
            mode = state["knobs"].get("squeue")
            strange = state["knobs"].get("strangers", [])
            if mode == "down":
                return Exit(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
            lines = []
            for job_id, job in state["jobs"].items():
                if job.get("forgotten") or job.get("purged") or mode == "forgets" or job["appears"] > self.clock():
                    continue
                stamp = datetime.fromtimestamp(job["submitted"]).isoformat(timespec="seconds")
                node = job.get("node", "g1" if job["state"] != "PENDING" else "")
                reason, comment = job.get("reason", "None"), job.get("comment", "(null)")
                lines.append(f"{job_id}|{job['state']}|{node}|{stamp}|{stamp}|{reason}|{comment}|{job['name']}")
            lines += [f"{one}|RUNNING|g9|N/A|N/A|None|(null)|{name}" for one, name in strange]
            text = "\n".join(lines) + "\n"
            return Exit(0, text[: len(text) // 2] if mode == "garbled" else text, "")

    def _sacct(self, arguments: list[str]) -> Exit:
        asked = {one.partition("=")[0]: one.partition("=")[2] for one in arguments}
        ids = set(arguments[-1].split(",")) if arguments[-2] == "-j" else None
        names = set(asked["--name"].split(",")) if "--name" in asked else None
        with self.state() as state:
            mode = state["knobs"].get("sacct", "down")
            if mode == "absent":
                return Exit(1, "", "Slurm accounting storage is disabled")
            if mode == "down":
                return Exit(1, "", "sacct: error: slurm_persist_conn_open: failed to open persistent connection")
            lines = []
            for job_id, job in state["jobs"].items():
                if job.get("purged") or (ids is not None and job_id.partition("_")[0] not in ids):
                    continue
                if names is not None and job["name"] not in names:
                    continue
                if self.clock() - job["submitted"] >= state["knobs"].get("lag", 0.0) and mode != "forgets":
                    stamp = datetime.fromtimestamp(job["submitted"]).isoformat(timespec="seconds")
                    lines.append(f"{job_id}|{job['state']}|g1|{stamp}|Unknown|Unknown|0:0||00:01:00|{job['name']}")
            for one, name in state["knobs"].get("strangers", []):
                if ids is None or re.split(r"[+_]", one)[0] in ids:
                    lines.append(f"{one}|RUNNING|g9|Unknown|Unknown|Unknown|0:0||00:01:00|{name}")
            return Exit(0, "\n".join(lines) + "\n", "")

    def _scancel(self, arguments: list[str]) -> Exit:
        with self.state() as state:
            for job_id in arguments[1:]:
                job = state["jobs"].get(job_id)
                if job and job["state"] in ACTIVE:
                    job["state"] = "CANCELLED"
                    for pid in job.get("pids", []):
                        _kill(pid)
        return Exit(0)

    def _scontrol(self, arguments: list[str]) -> Exit:
        if arguments[1:3] == ["show", "config"]:
            with self.state() as state:
                more = state["knobs"].get("config", "")
            return Exit(0, f"MaxArraySize            = 101\n{more}", "")
        if arguments[1] == "release":
            self.set(arguments[2], "PENDING", reason="None")
        if arguments[1] == "update":
            fields = dict(one.split("=") for one in arguments[2:])
            self.set(fields["JobId"], self.jobs()[fields["JobId"]]["state"], excluded=fields["ExcNodeList"])
        return Exit(0)

    # -- the node
    def launch(self, job_id: str, *, wait: bool = False) -> int:
        """Run the job as a node would, in a fork of its own; with `wait`, return its exit status."""
        keeper = os.fork()
        if keeper == 0:
            try:
                os._exit(self._keep(job_id))
            finally:
                os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) if wait else 0

    def _keep(self, job_id: str) -> int:
        runner = os.fork()
        if runner == 0:
            try:
                os._exit(_run(self.jobs()[job_id], job_id))
            finally:
                os._exit(98)
        with self.state() as state:
            if state["jobs"][job_id]["state"] == "PENDING":
                state["jobs"][job_id].update(state="RUNNING", pids=[runner])
        status = os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1])
        with self.state() as state:
            if state["jobs"][job_id]["state"] == "RUNNING":
                state["jobs"][job_id]["state"] = "COMPLETED" if status == 0 else "FAILED"
        return status if status >= 0 else 128 - status


def _run(job: dict[str, Any], job_id: str) -> int:
    from tasks.slurm import runner

    submission = Path(job["script"]).parent
    base, _, index = job_id.partition("_")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    os.environ.update({"SLURM_JOB_ID": base, "SLURMD_NODENAME": job.get("node", "g1")})
    if index:
        os.environ.update({"SLURM_ARRAY_JOB_ID": base, "SLURM_ARRAY_TASK_ID": index})
    sys.path.insert(0, job["environment"]["PYTHONPATH"])
    sys.modules.pop("slurm_jobs", None)
    log = os.open(submission / f"{job_id}_0_log.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    return runner.main([str(submission)])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
