"""The plan's faults, each at its time: windows are opened, jobs and processes are hit, people interfere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.simulator.cluster import Cluster, SlurmJob
from benchmarks.simulator.disk import Disk
from benchmarks.simulator.doors import IDENTITY
from benchmarks.simulator.flows import Flows
from benchmarks.simulator.plan import WINDOWS, Fault, Plan
from benchmarks.simulator.world import EPOCH, Host, World
from tasks.slurm.faults import NODE_POINTS

PATIENCE_S = 400.0  # to wait for a job that can be hit
SWEEP_S, SWEEPS = 30.0, 20


class Happenings:
    """What goes wrong in one history."""

    def __init__(self, world: World, plan: Plan, disk: Disk, cluster: Cluster, flows: Flows) -> None:
        self.world, self.plan, self.disk, self.cluster, self.flows = world, plan, disk, cluster, flows
        self.on_commit: Callable[[], None] = lambda: None
        self.on_damage: Callable[[SlurmJob], Path | None] = lambda job: None
        self._armed: list[Fault] = []
        self._site = Host("site")

    def arrange(self) -> None:
        """Put every fault on the calendar."""
        for fault in self.plan.faults:
            if fault.kind in WINDOWS:
                span = (EPOCH + fault.at, EPOCH + fault.at + fault.length, fault.value)
                self.cluster.windows.setdefault(fault.kind, []).append(span)
            if fault.kind == "leaking-environment":
                self.flows.environ["SQUEUE_PARTITION"] = "other"
            elif fault.kind == "two-nodes":
                self.flows.nodes = 2
            elif fault.kind == "prolog-fails":
                every = {host.name for host in self.cluster.nodes}
                self.cluster.bad_nodes = every if fault.point == "every node" else {"g1", "g2"}
            elif fault.kind == "second-flow":
                self.flows.start(1, fault.at)
            else:
                act = getattr(self, f"_{fault.kind.replace('-', '_')}", None)
                if act is not None:
                    body = self._bound(act, fault)
                    host = self.flows.hosts[1] if fault.kind in ("sweeper", "person-cancels") else self._site
                    name = {"sweeper": "sweeper", "person-cancels": "person"}.get(fault.kind, "fault")
                    self.world.spawn(name, host, body, fault.at, environ=dict(self.flows.environ))

    def _bound(self, act: Callable[[Fault], None], fault: Fault) -> Callable[[], None]:
        def body() -> None:
            self.world.note(f"{fault.kind} {fault.length:.0f} s")
            act(fault)

        return body

    # -- crash points
    def reach(self, point: str) -> None:
        """What the shipped code calls between its steps."""
        process = self.world.gate()
        if point == "result_written":
            self.on_commit()
        if point == "marker_written":
            self._damage_result()
        for fault in self._armed:
            if fault.kind == "damaged":
                continue
            if fault.point == point and point in NODE_POINTS and process.name.startswith("runner"):
                self._armed.remove(fault)
                job = next(one for one in self.cluster.jobs.values() if process in one.processes)
                self.cluster.harm(job, f"killed at {point}")
                self.cluster.kill(job, "FAILED")
                self.world.kill(process)
            if fault.point == point and process.name.startswith("run-"):
                self._armed.remove(fault)
                self.world.note(f"crash at {point}")
                self.world.kill(process)

    def _flow_kill_point(self, fault: Fault) -> None:
        self._armed.append(fault)

    _node_kill_point = _damaged = _flow_kill_point

    def _damage_result(self) -> None:
        """The node's disk gave back other bytes than it was given."""
        process = self.world.gate()
        for fault in [one for one in self._armed if one.kind == "damaged"]:
            job = next(one for one in self.cluster.jobs.values() if process in one.processes)
            path = self.on_damage(job)
            if path is not None:
                self._armed.remove(fault)
                self.cluster.harm(job, "result damaged")
                path.write_bytes(path.read_bytes()[:-9])

    # -- processes and disks
    def _flow_kill(self, fault: Fault) -> None:
        process = self.flows.flows[0].process
        if process is not None and not process.dead:
            self.world.kill(process)

    def _flow_stop(self, fault: Fault) -> None:
        process = self.flows.flows[0].process
        if process is not None:
            process.stopped = self.world.now + fault.value

    def _poll_removed(self, fault: Fault) -> None:
        for host in self.flows.hosts:
            shutil.rmtree(self.flows.poll_folder(host), ignore_errors=True)

    def _poll_full(self, fault: Fault) -> None:
        folders = {str(self.flows.poll_folder(host)) for host in self.flows.hosts}
        self.disk.full |= folders
        self.world.sleep(fault.length)
        self.disk.full -= folders

    def _root_full(self, fault: Fault) -> None:
        self._full({host.name for host in self.flows.hosts}, fault)

    def _node_full(self, fault: Fault) -> None:
        self._full({host.name for host in self.cluster.nodes}, fault)

    def _full(self, hosts: set[str], fault: Fault) -> None:
        self.disk.full_hosts |= hosts
        self.world.sleep(fault.length)
        self.disk.full_hosts -= hosts

    # -- jobs
    def _find(self, fault: Fault, *states: str) -> SlurmJob | None:
        name, end = self.plan.works[fault.target].name, self.world.now + PATIENCE_S
        while self.world.now < end:
            for job in reversed(list(self.cluster.jobs.values())):
                named = job.folder.partition(".")[0]
                mine = named == name or (re.match(r"train-array", named) and job.id.endswith(f"_{fault.target}"))
                if mine and job.state in states and not job.purged:
                    return job
            self.world.sleep(2.0)
        return None

    def _requeue(self, fault: Fault) -> None:
        if job := self._find(fault, "RUNNING"):
            self.cluster.requeue(job, "node failed")

    def _node_lost(self, fault: Fault) -> None:
        """Slurm no longer hears the node and starts the job elsewhere; its processes go on, and reach the disk."""
        if job := self._find(fault, "RUNNING"):
            self.cluster.requeue(job, "node lost", zombies=True)

    def _preempt(self, fault: Fault) -> None:
        if job := self._find(fault, "RUNNING"):
            self.cluster.signal(job, 15)
            self.world.sleep(4.0)
            self.cluster.requeue(job, "preempted")

    def _node_kill(self, fault: Fault) -> None:
        if job := self._find(fault, "RUNNING"):
            self.cluster.harm(job, "killed")
            self.cluster.kill(job, "FAILED")

    def _time_limit(self, fault: Fault) -> None:
        if job := self._find(fault, "RUNNING"):
            self.cluster.harm(job, "time limit")
            self.cluster.signal(job, 12)

    def _cancelled_by_hand(self, fault: Fault) -> None:
        if job := self._find(fault, "PENDING", "RUNNING"):
            self.cluster.harm(job, "scancel by hand")
            self.cluster.cancel(job, by=None)

    def _purged_by_hand(self, fault: Fault) -> None:
        """A waiting member of an array: cancelled, and neither queue nor accounting ever speaks of it again."""
        job = self._find(fault, "PENDING")
        if job is None or self.world.now - job.submitted < 1.0:
            return
        self.world.sleep(12.0)  # long enough that everybody has seen it wait
        if job.state == "PENDING":
            self.cluster.harm(job, "scancel by hand, without a trace")
            self.cluster.cancel(job, by=None)
            job.purged = True

    def _renamed(self, fault: Fault) -> None:
        if job := self._find(fault, "PENDING", "RUNNING"):
            self.cluster.harm(job, "renamed")
            job.name, job.renamed = "renamed", True

    # -- people
    def _sweeper(self, fault: Fault) -> None:
        for _ in range(SWEEPS):
            try:
                self.flows.dispatcher("sweeper", self.flows.hosts[1], False).sweep()
            except OSError as error:
                self.world.note(f"sweep failed: {error!r}")
            self.world.sleep(SWEEP_S)

    def _person_cancels(self, fault: Fault) -> None:
        spec, begun = self.flows.specs[fault.target], self.world.now
        key = spec.key(IDENTITY)
        try:
            dispatcher = self.flows.dispatcher("person", self.flows.hosts[1], True)
            entry = dispatcher.journal.read(key)
            if entry is None or entry.state != "live":
                return
            self.world.note(f"person cancels {spec.name}")
            dispatcher.cancel([dispatcher.journal.job(entry)])
        except (OSError, RuntimeError) as error:  # a message is an answer
            self.world.note(f"told the person: {error!r}")
        self.flows.event({"event": "person", "key": key, "took": self.world.now - begun})
