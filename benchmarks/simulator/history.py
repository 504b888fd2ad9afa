"""One history: the plan's faults happen to flows, hosts and jobs; watched all the while, judged at the end."""

from __future__ import annotations

import sys
import tempfile
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.simulator import work as work_module
from benchmarks.simulator.cluster import ACTIVE, Cluster, SlurmJob, run_runner
from benchmarks.simulator.disk import Disk
from benchmarks.simulator.doors import IDENTITY, simulated
from benchmarks.simulator.flows import Flows
from benchmarks.simulator.happenings import Happenings
from benchmarks.simulator.plan import Plan
from benchmarks.simulator.site import Programs
from benchmarks.simulator.verdicts import judge
from benchmarks.simulator.watchman import Violation, Watchman
from benchmarks.simulator.world import EPOCH, Process, World
from tasks.slurm import runner
from tasks.slurm.snapshot import Snapshot

LIMIT_S = 6 * 3600.0  # by then every job has its verdict, or is lost
CLOSING_S = 600.0  # how often another run comes by
MODULE = "simulated_work"


@dataclass(frozen=True)
class Told:
    """What came of a history."""

    plan: Plan
    violations: tuple[Violation, ...]
    record: tuple[str, ...]
    seconds: float  # of virtual time


def run(plan: Plan, patch: Callable[[], AbstractContextManager[object]] | None = None) -> Told:
    """Play a plan to its end, with `patch` (a mutant) applied to the shipped code."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        world = World(plan.seed)
        disk = Disk(world, folder / "shared", plan.nfs_s)
        cluster = Cluster(
            world, accounting=plan.accounting, keep_s=plan.keep_s, lag_s=plan.lag_s, skew=plan.skews[0],
        )  # fmt: skip
        programs = Programs(world, cluster)
        flows = Flows(world, plan, folder, _code(folder))
        watchman = Watchman(world, plan, cluster, programs, flows)
        happenings = Happenings(world, plan, disk, cluster, flows)
        waits = {one.name: one.wait for one in plan.works}
        cluster.queue_wait = lambda job: waits.get(job.name.partition(".")[0], 5.0)
        cluster.run_job = lambda job, process, rank: _node(job, process, rank)
        work_module.STAGE.world, work_module.STAGE.watch = world, watchman
        stack.enter_context(simulated(world, disk, programs, happenings.reach))
        happenings.on_commit, happenings.on_damage = watchman.commits, watchman.damaged
        if patch is not None:
            stack.enter_context(patch())
        happenings.arrange()
        flows.start(0)
        watchman.patrol()
        world.spawn("closing", flows.hosts[0], lambda: _close(flows, cluster), CLOSING_S)
        finished = world.run(lambda: bool(watchman.violations) or (flows.over() and cluster_idle(cluster)), LIMIT_S)
        judge(watchman, finished)
        return Told(plan, tuple(watchman.violations), tuple(world.record), world.now - EPOCH)


def _close(flows: Flows, cluster: Cluster) -> None:
    """The next run on this site, once these flows are over: it sweeps before it waits for its own jobs."""
    while not (flows.over() and cluster_idle(cluster)):
        if flows.over():
            try:
                flows.dispatcher("closing", flows.hosts[0], True).sweep()
            except OSError as error:
                cluster.world.note(f"sweep failed: {error!r}")
        cluster.world.sleep(CLOSING_S)


def cluster_idle(cluster: Cluster) -> bool:
    """Nothing waits or runs any more."""
    active = (*ACTIVE, "NODE_FAIL", "PREEMPTED")
    over = [job.ended is not None or job.state not in active or job.purged for job in cluster.jobs.values()]
    return all(over) and not any(one.name == "slurmctld" and not one.ended for one in cluster.world.processes)


def _node(job: SlurmJob, process: Process, rank: int) -> int:
    process.log = job.script.parent / f"{job.id}_0_log.out"
    return run_runner(job, process, rank, runner.main)


def _code(folder: Path) -> Snapshot:
    """A snapshot whose one module is already loaded, so that no history has to import it."""
    place = folder / "shared" / "root" / "code" / MODULE
    place.mkdir(parents=True)
    module = types.ModuleType(MODULE)
    module.__file__ = str(place / f"{MODULE}.py")
    module.work = work_module.work  # type: ignore[attr-defined]
    sys.modules[MODULE] = module
    known: dict[str, Any] = {"folder": place, "sha256": MODULE, "identity": IDENTITY}
    return Snapshot(**{one.name: known[one.name] for one in fields(Snapshot)})
