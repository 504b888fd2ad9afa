"""The site's jobs and nodes: accepted, started, requeued, killed, cancelled, forgotten. They run the real runner."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.simulator.world import Host, Killed, Process, World

ACTIVE = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")
KILL_WAIT_S = 30.0
SETTLES_S = 12.0  # a requeued job is shown as NODE_FAIL or PREEMPTED this long
HELD = "launch failed requeued held"


@dataclass(eq=False)
class SlurmJob:
    """One Slurm job, or one task of an array."""

    id: str
    base: str
    name: str
    script: Path
    environ: dict[str, str]
    submitted: float
    ordered: float  # when its sbatch began
    nodes: int
    comment: str = ""
    state: str = "PENDING"
    reason: str = "Priority"
    node: str = ""
    exit_code: str = "0:0"
    started: float | None = None
    ended: float | None = None
    requeues: int = 0
    purged: bool = False  # from queue and accounting, without a trace
    renamed: bool = False
    past: list[tuple[float, str]] = field(default_factory=list)  # what accounting will learn
    processes: list[Process] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Name of the submission's folder: the token that the dispatcher gave."""
        return self.script.parent.name


class Cluster:
    """Controller, accounting and nodes of one site."""

    def __init__(self, world: World, *, accounting: str, keep_s: float, lag_s: float, skew: float) -> None:
        self.world, self.accounting, self.keep_s, self.lag_s, self.skew = world, accounting, keep_s, lag_s, skew
        self.jobs: dict[str, SlurmJob] = {}
        self.windows: dict[str, list[tuple[float, float, float]]] = {}  # name -> (from, until, value)
        self.nodes = [Host(f"g{number}", 0.0) for number in range(1, 5)]
        self.bad_nodes: set[str] = set()
        self.queue_wait: Callable[[SlurmJob], float] = lambda job: 5.0
        self.cancellations: list[tuple[float, SlurmJob, Process]] = []
        self.harms: list[tuple[SlurmJob, str]] = []  # what the site did to which job
        self.run_job: Callable[[SlurmJob, Process, int], int] = lambda job, process, rank: 0
        self.on_accept: Callable[[SlurmJob], None] = lambda job: None
        self._next = 1

    # -- faults
    def on(self, name: str) -> bool:
        """Whether a window of this name is open."""
        return any(begin <= self.world.now < end for begin, end, _ in self.windows.get(name, ()))

    def value(self, name: str, otherwise: float) -> float:
        """The open window's number."""
        return next((v for begin, end, v in self.windows.get(name, ()) if begin <= self.world.now < end), otherwise)

    def strangers(self) -> list[dict[str, str]]:
        """Rows of the same user that are not ours."""
        found = [{"id": "900+0", "name": "het"}, {"id": "900+1", "name": "het"}] if self.on("het-rows") else []
        return found + ([{"id": "901", "name": "a\nb"}] if self.on("newline-name") else [])

    def harm(self, job: SlurmJob, what: str) -> None:
        """The site's doing, so that a failure it explains is no false verdict."""
        self.harms.append((job, what))
        self.world.note(f"site: {what} {job.id}")

    # -- what is shown
    def listed(self, job: SlurmJob) -> bool:
        """In squeue: from its acceptance until `keep_s` after its end."""
        over = job.ended is not None and self.world.now - job.ended > self.keep_s
        return not (job.purged or over)

    def accounted(self, job: SlurmJob) -> str | None:
        """The state that accounting has heard of by now; None before the first."""
        if job.purged:
            return None
        heard = [state for when, state in job.past if when + self.lag_s <= self.world.now]
        if self.on("sacct-stale") and heard:
            return heard[0]
        return heard[-1] if heard else None

    # -- what happens
    def accept(self, script: Path, environ: dict[str, str], ordered: float) -> str:
        """A new job, or array, of the sbatch that began at `ordered`; its id."""
        text = script.read_text()
        name = re.search(r"--job-name=(\S+)", text)
        tasks = re.search(r"--array=0-(\d+)", text)
        nodes = re.search(r"--nodes=(\d+)", text)
        comment = re.search(r"--comment=(\S+)", text)
        base, self._next = str(self._next), self._next + 1
        ids = [f"{base}_{index}" for index in range(int(tasks[1]) + 1)] if tasks else [base]
        for job_id in ids:
            job = SlurmJob(
                job_id, base, name[1].strip("'") if name else "", script, environ, self.world.now, ordered,
                int(nodes[1]) if nodes else 1, comment[1].strip("'") if comment else "",
            )  # fmt: skip
            self.jobs[job_id] = job
            self._turn(job, "PENDING")
            self.world.note(f"site: accepted {job_id} {job.name}")
            self.on_accept(job)
            self._start_later(job, self.queue_wait(job))
        return base

    def _turn(self, job: SlurmJob, state: str) -> None:
        job.state = state
        job.past.append((self.world.now, state))
        if state not in ACTIVE:
            job.ended = self.world.now

    def _start_later(self, job: SlurmJob, wait: float) -> None:
        self.world.spawn(f"start-{job.id}", Host("ctl"), lambda: self._start(job), wait)

    def _start(self, job: SlurmJob) -> None:
        if job.state != "PENDING" or job.purged or job.reason == HELD:
            return
        excluded = re.search(r"--exclude=(\S+)", job.script.read_text())
        free = [one for one in self.nodes if one.name not in (excluded[1].split(",") if excluded else [])]
        host = self.world.rng.choice(free or self.nodes)
        if self.on("prolog-fails") and host.name in self.bad_nodes:
            job.reason, job.requeues = HELD, job.requeues + 1
            self.harm(job, "held after a failed prolog")
            return
        job.node, job.reason, job.started = host.name, "None", self.world.now
        self._turn(job, "RUNNING")
        job.processes = [self._runner(job, host, rank) for rank in range(job.nodes)]

    def _runner(self, job: SlurmJob, host: Host, rank: int) -> Process:
        index = job.id.partition("_")[2]
        array = {"SLURM_ARRAY_JOB_ID": job.base, "SLURM_ARRAY_TASK_ID": index} if index else {}
        own = {"SLURM_JOB_ID": job.id.replace("_", ""), "SLURMD_NODENAME": host.name, "SLURM_PROCID": str(rank)}
        own = {**own, "SLURM_JOB_ID": job.base} if not index else own
        process: Process

        def body() -> int:
            status = self.run_job(job, process, rank)
            mine = process in job.processes  # not that of an earlier start, on a node that Slurm lost
            if (
                mine
                and job.state in ("RUNNING", "COMPLETING")
                and all(one.ended or one is process for one in job.processes)
            ):
                job.exit_code = f"{status}:0"
                end = "CANCELLED" if job.state == "COMPLETING" else "COMPLETED" if status == 0 else "FAILED"
                self.world.note(f"site: {job.id} {end} {status}")
                self._turn(job, end)
            return status

        process = self.world.spawn(
            f"runner-{job.id}.{job.requeues}{'ab'[rank] if job.nodes > 1 else ''}", host, body, 0.2,
            environ={**job.environ, **array, **own},
        )  # fmt: skip
        return process

    def signal(self, job: SlurmJob, number: int) -> None:
        """A signal to a running job's processes."""
        for process in job.processes:
            if number in process.handlers and not process.dead:
                process.handlers[number](number, None)

    def kill(self, job: SlurmJob, state: str, exit_code: str = "0:9", zombies: bool = False) -> None:
        """The processes are gone, and this is what Slurm says about it; `zombies` go on where Slurm cannot see them."""
        job.exit_code = exit_code
        self._turn(job, state)
        if zombies:
            return
        mine = self.world.current
        for process in job.processes:
            if process is not mine:
                self.world.kill(process)

    def cancel(self, job: SlurmJob, by: Process | None) -> None:
        """scancel: a waiting job is gone at once; a running one is asked, then killed."""
        if job.state not in ("PENDING", "RUNNING", "NODE_FAIL", "PREEMPTED"):
            return
        if by is not None:
            self.cancellations.append((self.world.now, job, by))
            self.world.note(f"scancel {job.id}")
        if job.state != "RUNNING":
            self._turn(job, "CANCELLED")
            return
        self._turn(job, "COMPLETING")
        self.signal(job, 15)
        self.world.spawn("killwait", Host("ctl"), lambda: self._finish_off(job), KILL_WAIT_S)

    def _finish_off(self, job: SlurmJob) -> None:
        if job.state == "COMPLETING":
            self.kill(job, "CANCELLED")

    def requeue(self, job: SlurmJob, what: str, *, by_itself: bool = False, zombies: bool = False) -> None:
        """Back into the queue: the processes are killed, the job will start again under its id."""
        if job.state != "RUNNING":
            return
        if not by_itself:
            self.harm(job, what)
        job.requeues += 1
        self.kill(job, "PREEMPTED" if what == "preempted" else "NODE_FAIL", zombies=zombies)
        job.ended = None
        self.world.spawn("slurmctld", Host("ctl"), lambda: self._put_back(job), SETTLES_S)
        mine = self.world.current
        if mine in job.processes and mine is not None:
            self.world.kill(mine)

    def _put_back(self, job: SlurmJob) -> None:
        if job.state in ("NODE_FAIL", "PREEMPTED"):
            job.ended, job.reason, job.exit_code = None, "BeginTime", "0:0"
            self._turn(job, "PENDING")
            self._start_later(job, 12.0 + self.queue_wait(job))

    def release(self, job: SlurmJob) -> None:
        """scontrol release."""
        if job.state == "PENDING":
            job.reason = "None"
            self._start_later(job, 2.0)


def run_runner(job: SlurmJob, process: Process, rank: int, main: Callable[[list[str]], int]) -> int:
    """The real runner; what escapes it is a crash with a traceback in the log."""
    try:
        return main([str(job.script.parent)])
    except Killed:
        raise
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:
        _write(job, f"Traceback: {error!r}\n")
        return 1


def _write(job: SlurmJob, text: Any) -> None:
    with open(job.script.parent / f"{job.id}_0_log.out", "a", errors="backslashreplace") as stream:
        stream.write(str(text))
