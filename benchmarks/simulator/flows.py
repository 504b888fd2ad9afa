"""Flow processes as `tasks.dispatch` makes them: submit, sweep, wait; on an error withdraw; then started again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.simulator.plan import Plan
from benchmarks.simulator.world import EPOCH, Host, Process, World
from tasks.slurm.dispatcher import Dispatcher, Job, JobSpec, Outcome
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import Profile, load_profile
from tasks.slurm.snapshot import Snapshot

RESTART_S = 25.0
MOST_STARTS = 20
PATIENT_AFTER_S = 300.0  # of a history: from then on a flow looks less and less often, to save turns
MOST_TICK_S = 20.0
PROFILE = load_profile("slurm-dev").model_copy(
    update={"settle_seconds": 15.0, "marker_grace_seconds": 5.0, "vanish_seconds": 60.0, "poll_seconds": 4.0}
)


def _on_nodes(profile: Profile, nodes: int) -> Profile:
    """The profile as a person would write it: checked as a file's is."""
    content = profile.model_dump()
    for section in content["stages"].values():
        section["nodes"] = nodes
    return Profile.model_validate(content)


@dataclass(eq=False)
class Flow:
    """One flow run of the same work; a restart is a new run under a new owner."""

    number: int
    starts: int = 0
    owner: str = ""
    process: Process | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    over: bool = False
    refused: str = ""


class Flows:
    """All flow processes of a history."""

    def __init__(self, world: World, plan: Plan, folder: Path, code: Snapshot) -> None:
        self.world, self.plan, self.folder, self.code = world, plan, folder, code
        self.root = folder / "shared" / "root"
        self.hosts = [Host("login1", plan.skews[0]), Host("login2", plan.skews[1])]
        self.environ = {"PATH": "/usr/bin"}
        self.profile: Profile = PROFILE
        self.nodes = 1
        self.flows: list[Flow] = []
        self.gone: set[str] = set()  # owners that died or gave up on an error
        self.owners: dict[str, Process] = {}
        self.complain: Callable[[str, str], None] = lambda kind, text: None
        self.event: Callable[[dict[str, Any]], None] = lambda event: None
        self.specs = [
            JobSpec(one.name, "simulated_work:work", {"name": one.name, "does": one.does, "seconds": one.seconds})
            for one in plan.works
        ]

    def poll_folder(self, host: Host) -> Path:
        """Where the processes of one host share their view."""
        return self.folder / f"poll-{host.name}"

    def dispatcher(self, owner: str, host: Host, detach: bool) -> Dispatcher:
        """The real one, on the simulated site."""
        clock = self.world.clock
        scheduler = Slurm(
            folder=self.poll_folder(host), clock=clock, poll_seconds=self.profile.poll_seconds,
            accounting=self.profile.accounting,
        )  # fmt: skip
        return Dispatcher(
            self.profile, self.root, events=self.event, code=self.code, detach=detach, owner=owner,
            scheduler=scheduler, clock=clock, sleep=self._tick,
        )  # fmt: skip

    def _tick(self, seconds: float) -> None:
        passed = self.world.now - EPOCH
        self.world.sleep(max(seconds, self.plan.tick_s, min(MOST_TICK_S, (passed - PATIENT_AFTER_S) / 30.0)))

    # -- life
    def start(self, number: int, after: float = 0.0) -> None:
        """Start flow `number`, or start it again."""
        while len(self.flows) <= number:
            self.flows.append(Flow(len(self.flows)))
        flow = self.flows[number]
        flow.starts += 1
        flow.owner = f"run-{number}-{flow.starts}"
        host = self.hosts[number % 2]
        flow.process = self.world.spawn(
            flow.owner, host, lambda: self._body(flow, host), after, environ=dict(self.environ)
        )
        self.owners[flow.owner] = flow.process
        self.world.spawn("operator", Host("ops"), lambda: self._attend(flow), after + 1.0)

    def _attend(self, flow: Flow) -> None:
        while flow.process is not None and not flow.process.ended and not flow.process.dead:
            self.world.sleep(5.0)
        if flow.over:
            return
        self.gone.add(flow.owner)
        if flow.starts >= MOST_STARTS:
            self.complain("an error ended a flow", f"{flow.owner}: started {flow.starts} times in vain")
            return
        self.start(flow.number, RESTART_S)

    def _body(self, flow: Flow, host: Host) -> int:
        sent: list[Job] = []
        dispatcher: Dispatcher | None = None
        try:
            if self.nodes > 1:
                self.profile = _on_nodes(self.profile, self.nodes)
            dispatcher = self.dispatcher(flow.owner, host, self.plan.detach)
            sent += dispatcher.submit(self.specs, array=self.plan.array)
            dispatcher.sweep()
            for outcome in dispatcher.wait(sent):
                flow.outcomes[outcome.spec.name] = outcome
                self.world.note(f"outcome {outcome.spec.name} {outcome.state} {outcome.cause} x{outcome.attempts}")
            flow.over = True
            return 0
        except Exception as error:
            self._failed(flow, dispatcher, sent, error)
            return 1

    def _failed(self, flow: Flow, dispatcher: Dispatcher | None, sent: list[Job], error: Exception) -> None:
        """As `on_cluster`: whatever ends the flow early takes its jobs along, unless they are detached."""
        self.world.note(f"flow error {error!r}")
        self.gone.add(flow.owner)
        if isinstance(error, ValueError) and self.nodes > 1:
            flow.over, flow.refused = True, str(error)
            return
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if not (full and "root-full" in self.plan.kinds()):
            self.complain("an error ended a flow", repr(error))
        elif not str(getattr(error, "filename", "") or "").startswith(str(self.folder)):
            self.complain("an error names no path", repr(error))
        if dispatcher is not None and not self.plan.detach:
            try:
                dispatcher.cancel(sent)
            except OSError as second:
                self.world.note(f"withdrawal failed too: {second!r}")

    def over(self) -> bool:
        """Every flow has its verdicts."""
        return bool(self.flows) and all(flow.over for flow in self.flows)

    def alive(self, owner: str) -> bool:
        """Whether the process that holds a job lives; a stopped one does."""
        process = self.owners.get(owner)
        return process is not None and not process.dead and owner not in self.gone
