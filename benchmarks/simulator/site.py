"""A Slurm site as its programs show it: what sbatch, squeue, sacct, scancel and scontrol answer, truly or not.

The faults are windows of time, kept by name: `cluster.on("sbatch-lies")` is true while one of them is open. What
happens to jobs (start, requeue, kill, cancellation by hand) is in `cluster`; here are the words.
"""

from __future__ import annotations

import os
import re
import subprocess as real_subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.simulator.cluster import ACTIVE, Cluster, SlurmJob
from benchmarks.simulator.world import EPOCH, Host, Process, World

FAILED = "sbatch: error: Batch job submission failed: "
TIMED_OUT = f"{FAILED}Socket timed out on send/recv operation"
UNREACHABLE = "Unable to contact slurm controller (connect failure)"
# What sbatch says although the job was accepted, and although nothing is wrong with the request.
LIES = {
    "sbatch-lies": TIMED_OUT,
    "sbatch-side-line": f"sbatch: error: spank: plugin_x: Invalid argument\n{TIMED_OUT}",
}
PASSING = {
    "sbatch-no-user": "sbatch: error: Invalid user for SlurmUser slurm, ignored\n"
    "sbatch: fatal: Unable to process configuration file",
    "sbatch-inactive": f"{FAILED}Required partition not available (inactive or drain)",
    "sbatch-down": f"sbatch: error: Batch job submission failed: {UNREACHABLE}",
    "sbatch-limit": "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
}
# For ever, by the first word of the job's name: what no second try can change.
REFUSED = {
    "lua": f"sbatch: error: This site wants --account=PROJECT\n{FAILED}Unspecified error",
    "unwritable": f"{FAILED}I/O error writing script/environment to file",
    "overlong": "sbatch: error: QOSMaxWallDurationPerJobLimit\n"
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "nowhere": "sbatch: error: invalid partition specified: gpux\n" + f"{FAILED}Invalid partition name specified",
}


class Programs:
    """`subprocess` for every module that runs a Slurm program."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._world, self._cluster = world, cluster
        self.calls: list[tuple[float, str, str]] = []  # when, program, first argument that matters
        self.answered: dict[str, float] = {}  # ids that sbatch has told, and when

    def __getattr__(self, name: str) -> Any:
        return getattr(real_subprocess, name)

    def Popen(
        self, argv: list[str], *, stdout: int, stderr: int, env: dict[str, str], pass_fds: Any = (), **_: Any
    ) -> Any:
        """sbatch: a process of its own, which outlives its caller and holds the lock it inherits."""
        if self._cluster.on("sbatch-eagain"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return Sbatch(self._world, self._cluster, self, argv[-1], (stdout, stderr, *pass_fds), env)

    def run(self, argv: list[str], *, env: dict[str, str] | None = None, timeout: float | None = None, **_: Any) -> Any:
        """A read command or scancel: a moment of time, an exit status, a text."""
        name = Path(argv[0]).name
        self.calls.append((self._world.now, name, " ".join(argv[1:])))
        self._world.sleep(0.02)
        if self._cluster.on(f"{name}-hangs"):
            self._world.sleep(timeout or 60.0)
            raise real_subprocess.TimeoutExpired(argv, timeout or 60.0)
        environment = env if env is not None else self._world.gate().environ
        status, out, err = getattr(self, f"_{name}")(list(argv[1:]), environment)
        return real_subprocess.CompletedProcess(argv, status, out, err)

    # -- squeue
    def _squeue(self, arguments: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        if self._cluster.on("squeue-down"):
            return 1, "", f"slurm_load_jobs error: {UNREACHABLE}"
        options = _options(arguments, "o", "j", "n", "u", "t")
        jobs = [job for job in self._cluster.jobs.values() if self._cluster.listed(job)]
        if "j" in options:
            wanted = set(options["j"].split(","))
            jobs = [job for job in jobs if job.id in wanted or job.base in wanted]
            if not jobs and len(wanted) == 1:
                return 1, "", "slurm_load_jobs error: Invalid job id specified"
        if "n" in options:
            jobs = [job for job in jobs if job.name in options["n"].split(",")]
        if env.get("SQUEUE_PARTITION") not in (None, "gpu"):
            jobs = []
        lines = [self._queue_line(options.get("o", "%i|%T|%j"), job) for job in jobs]
        if "j" not in options and "n" not in options:
            lines += [_foreign(options.get("o", "%i|%T|%j"), **one) for one in self._cluster.strangers()]
        text = "".join(f"{line}\n" for line in lines)
        # a cut between two lines would be an answer that claims to be whole: nobody could tell
        return 0, text[: len(text) // 2].rstrip("\n") if self._cluster.on("squeue-cut") else text, ""

    def _queue_line(self, form: str, job: SlurmJob) -> str:
        stamp = self._stamp
        node = job.node if job.state not in ("PENDING", "REQUEUED") else ""
        known = {
            "i": job.id, "T": job.state, "N": node, "V": stamp(job.submitted), "S": stamp(job.started), "j": job.name,
            "r": job.reason, "R": job.reason, "u": "me", "P": "gpu", "A": job.base, "F": job.base,
            "Q": "1", "k": job.comment,
            "e": stamp(job.ended), "l": "30:00", "M": "1:00", "a": "lab", "q": "normal", "B": "localhost",
        }  # fmt: skip
        return re.sub(r"%\.?\d*([a-zA-Z])", lambda match: known.get(match[1], ""), form)

    def _stamp(self, when: float | None) -> str:
        if when is None:
            return "N/A"
        return datetime.fromtimestamp(when + self._cluster.skew).isoformat(timespec="seconds")

    # -- sacct
    def _sacct(self, arguments: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        if self._cluster.accounting == "absent":
            return 1, "", "Slurm accounting storage is disabled"
        if self._cluster.on("sacct-down"):
            return 1, "", "sacct: error: slurm_persist_conn_open: failed to open persistent connection"
        options = _options(arguments, "o", "j", "u", "S", "E", "s", "name", "format", "user", "jobs")
        fields = options.get("o", options.get("format", "JobID,State,JobName")).split(",")
        jobs = [job for job in self._cluster.jobs.values() if self._cluster.accounted(job) is not None]
        wanted, names = options.get("j", options.get("jobs")), options.get("name")
        if wanted:
            ids = set(wanted.split(","))
            jobs = [job for job in jobs if job.id in ids or job.base in ids]
        if names:
            jobs = [job for job in jobs if job.name in names.split(",")]
        lines = [self._history_line(fields, job) for job in jobs]
        if not wanted and not names:
            lines += [
                "|".join({"JobID": one["id"], "State": "COMPLETED", "JobName": one["name"]}.get(f, "") for f in fields)
                for one in self._cluster.strangers()
            ]
        return 0, "".join(f"{line}\n" for line in lines), ""

    def _history_line(self, fields: list[str], job: SlurmJob) -> str:
        state = self._cluster.accounted(job) or ""
        over = state not in ACTIVE
        known = {
            "JobID": job.id, "JobIDRaw": job.id, "State": state, "NodeList": job.node or "None assigned",
            "Submit": self._stamp(job.submitted), "Start": self._stamp(job.started) if job.started else "Unknown",
            "End": self._stamp(job.ended) if over and job.ended else "Unknown", "ExitCode": job.exit_code,
            "TotalCPU": "00:01:00", "JobName": job.name, "Elapsed": "00:01:00", "Partition": "gpu", "User": "me",
        }  # fmt: skip
        return "|".join(known.get(name, "") for name in fields)

    # -- scancel, scontrol
    def _scancel(self, arguments: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        if self._cluster.on("scancel-lost"):
            return 1, "", f"scancel: error: {UNREACHABLE}"
        names = _options(arguments, "n", "name")
        ids = [one for one in arguments if re.fullmatch(r"\d+(_\d+)?", one)]
        ids += [job.id for job in self._cluster.jobs.values() if job.name in names.values()]
        for job in [job for job in self._cluster.jobs.values() if job.id in ids or job.base in ids]:
            self._cluster.cancel(job, by=self._world.gate())
        return 0, "", ""

    def _scontrol(self, arguments: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        words = [one for one in arguments if not one.startswith("-")]
        if words[:2] == ["show", "config"]:
            began = datetime.fromtimestamp(EPOCH - 3600 + self._cluster.skew).isoformat(timespec="seconds")
            keeps = f"{self._cluster.keep_s:.0f}"
            return 0, f"BOOT_TIME = {began}\nMinJobAge = {keeps} sec\nMaxArraySize            = 101\n", ""
        if self._cluster.on("squeue-down"):
            return 1, "", f"scontrol: error: {UNREACHABLE}"
        if words[0] == "ping":
            return 0, "Slurmctld(primary) at ctl is UP\n", ""
        job_id = words[2] if words[:2] == ["show", "job"] else words[1].removeprefix("JobId=")
        job = self._cluster.jobs.get(job_id)
        if job is None or job.purged:
            return 1, "", "slurm_load_jobs error: Invalid job id specified"
        if words[0] == "show":
            found = (
                f"JobId={job.id} JobName={job.name} JobState={job.state} Reason={job.reason} Restarts={job.requeues}"
            )
            return 0, f"{found} NodeList={job.node}\n", ""
        if words[0] == "requeue":
            self._cluster.requeue(job, "requeued", by_itself=True)
        elif words[0] == "release":
            self._cluster.release(job)
        elif words[0] == "update" and job.state != "PENDING":
            return 1, "", "Job is no longer pending execution"
        return 0, "", ""


class Sbatch:
    """One running sbatch, as `subprocess.Popen` shows it."""

    def __init__(
        self, world: World, cluster: Cluster, programs: Programs, script: str, fds: tuple[int, ...], env: dict[str, str]
    ) -> None:
        self._world, self._cluster, self._programs, self._script = world, cluster, programs, Path(script)
        self._begun = world.now
        self._out, self._err, *_ = self._fds = [os.dup(one) for one in fds]
        programs.calls.append((world.now, "sbatch", self._script.parent.name))
        caller = world.gate()
        self.process: Process = world.spawn("sbatch", caller.host, self._body, 0.02, environ=dict(env))
        self.process.locks.update(self._fds)
        self.pid, self.returncode = self.process.pid, None

    def wait(self, timeout: float | None = None) -> int:
        end = self._world.now + (timeout if timeout is not None else 1e9)
        while not self.process.ended:
            if self._world.now >= end:
                raise real_subprocess.TimeoutExpired("sbatch", timeout or 0.0)
            self._world.sleep(min(0.25, max(0.01, end - self._world.now)))
        return self.process.status or 0

    def kill(self) -> None:
        self._world.kill(self.process)

    def _body(self) -> int:
        cluster = self._cluster
        self._world.sleep(cluster.value("sbatch-slow", 0.05))
        word = self._script.parent.name.partition("-")[0]
        text = REFUSED.get(word) or next((PASSING[name] for name in PASSING if cluster.on(name)), None)
        if text:
            return self._say(1, err=text)
        lie = next((LIES[name] for name in LIES if cluster.on(name)), None)
        if lie and (late := cluster.value("accepted-late", 0.0)):
            self._world.spawn("slurmctld", Host("ctl"), self._accept_late, late)
            return self._say(1, err=lie)
        base = self._accept()
        if lie:
            self._world.note(f"sbatch lies about {base}")
            return self._say(1, err=lie)
        self._programs.answered[base] = self._world.now
        return self._say(0, out=f"{base}\n")

    def _accept_late(self) -> None:
        """The request was still in the controller's queue."""
        self._accept()

    def _accept(self) -> str:
        return self._cluster.accept(self._script, self.process.environ, self._begun)

    def _say(self, status: int, out: str = "", err: str = "") -> int:
        if out:
            os.write(self._out, out.encode())
        if err:
            os.write(self._err, f"{err}\n".encode())
        os.utime(self._out, (self._world.now, self._world.now))
        return status


def _options(arguments: list[str], *names: str) -> dict[str, str]:
    """Values of the options asked for: "-o X", "-oX", "--name X", "--name=X"."""
    found: dict[str, str] = {}
    aliases = {"job": "j", "jobs": "j", "format": "o"}
    for place, one in enumerate(arguments):
        name, equals, value = one.lstrip("-").partition("=")
        if one.startswith("-") and (name in names or aliases.get(name) in names):
            key = aliases.get(name, name)
            found[key] = value if equals else (arguments[place + 1] if place + 1 < len(arguments) else "")
    return found


def _foreign(form: str, **known: str) -> str:
    values = {"i": known["id"], "T": "RUNNING", "j": known["name"], "N": "g9", "r": "None"}
    return re.sub(r"%\.?\d*([a-zA-Z])", lambda match: values.get(match[1], "N/A"), form)
