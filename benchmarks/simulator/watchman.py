"""The invariants, watched while a history runs and judged at its end.

lost            every job has a verdict in the end, and every promise is kept
twice           no job runs twice to a result; no two runs write in one folder at a time
false           no verdict that nothing explains
monotone        attempts grow, an end is an end
bounded         tries and waits have a bound
whole           the journal can be read at any moment, and says at the end that nothing lives
cancelled       nothing is cancelled that nobody cancelled
error           no error of an observer ends a flow; an error of the disk names a path
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.simulator.cluster import Cluster, SlurmJob
from benchmarks.simulator.doors import IDENTITY
from benchmarks.simulator.flows import Flows
from benchmarks.simulator.plan import Plan
from benchmarks.simulator.site import Programs
from benchmarks.simulator.world import Host, Process, World

PATROL_S = 20.0
MOST_TRIES = 30  # sbatches of one job, beside what the site did to it
OVERLAP_S = 60.0  # an old attempt looks every few seconds whether another took over
CANCEL_S = 60.0
CANCELLED_S = 180.0  # so long after a person's word, and with nothing in the way, a job has left the queue
ENDS = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Violation:
    """One invariant that did not hold."""

    kind: str
    text: str


def same(one: str, other: str) -> bool:
    """Whether two starts ("ATTEMPT PROCESS") are of one attempt."""
    return one.partition(" ")[0] == other.partition(" ")[0]


class Watchman:
    """Sees what the site, the nodes and the flows do."""

    def __init__(self, world: World, plan: Plan, cluster: Cluster, programs: Programs, flows: Flows) -> None:
        self.world, self.plan, self.cluster, self.programs, self.flows = world, plan, cluster, programs, flows
        self.violations: list[Violation] = []
        self._names = {spec.key(IDENTITY): spec.name for spec in flows.specs}
        self.does = {one.name: one.does for one in plan.works}
        self._results: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self._working: dict[str, dict[Process, tuple[str, float]]] = {}
        self._ended: dict[tuple[str, int], str] = {}
        self._told: dict[str, tuple[str, int]] = {}  # end, and of which attempt
        self._attempts: dict[str, int] = {}
        self._seen_cancellations = 0
        self._asked: dict[str, float] = {}  # since when a person's word stands, and nothing is in its way
        flows.complain, flows.event, cluster.on_accept = self.complain, self.event, self.accepted

    def complain(self, kind: str, text: str) -> None:
        """A violation."""
        self.world.note(f"VIOLATION {kind}: {text}")
        self.violations.append(Violation(kind, text))

    # -- what the flows say
    def event(self, event: dict[str, Any]) -> None:
        """One audit line of a dispatcher."""
        what, key, attempt = event["event"], event["key"], event.get("attempt", 0)
        name = self._names[key]
        more = " ".join(str(event[one]) for one in ("slurm_id", "cause", "text", "how", "took") if event.get(one))
        self.world.note(f"event {what} {name} {attempt} {more}".replace("\n", " / ")[:200])
        if what == "remedy":
            self._remedied(name, str(event["cause"]), str(event.get("slurm_id", "")), str(event["action"]))
        if what == "person" and event["took"] > CANCEL_S + 90.0 * ("sbatch-slow" in self.plan.kinds()):
            self.complain("bounded", f"cancel of {name} hung for {event['took']:.0f} s")
        if what in ENDS:
            if (key, attempt) in self._ended:
                self.complain("monotone", f"{name}, attempt {attempt}: {self._ended[key, attempt]}, then {what}")
            self._ended[key, attempt] = what
            self._told[key] = (what, attempt)
        elif what in ("submitted", "reused", "attached"):
            self._told.pop(key, None)

    def _remedied(self, name: str, cause: str, slurm_id: str, action: str) -> None:
        """A job is told as lost that runs, or waits where everybody can see it; or that Slurm is about to put back."""
        job = self.cluster.jobs.get(slurm_id)
        if job is None or job.purged or action.startswith("requeued"):
            return
        if cause == "vanished" and job.state in ("PENDING", "RUNNING"):
            self.complain("false", f"{name} is told as vanished, and {slurm_id} is in the queue")
        if cause in ("node_fail", "preempted") and job.requeues and job.ended is None:
            self.complain("false", f"{name} is given up ({cause}), and Slurm puts {slurm_id} back by itself")

    # -- what the nodes do
    def begins(self, context: Any) -> None:
        """A run enters the job's folder."""
        key, process = context.folder.parent.name, self.world.gate()
        others, start = self._alive(key), f"{context.attempt} {process.name.rstrip('ab')}"
        if any(other == start or not self._lost_node(one) for one, (other, _) in others.items() if same(other, start)):
            self.complain("twice", f"two runs of attempt {context.attempt} write in the folder of {self._name(key)}")
        self._working.setdefault(key, {})[process] = (start, self.world.now)
        self.begun[key] += 1
        self.world.note(f"work begins {self._name(key)} attempt {context.attempt}")

    def stops(self, context: Any) -> None:
        """A run leaves the folder."""
        process = self.world.current
        if process is not None:
            self._working.get(context.folder.parent.name, {}).pop(process, None)

    def commits(self) -> None:
        """A run has written the result."""
        process = self.world.gate()
        job = next((one for one in self.cluster.jobs.values() if process in one.processes), None)
        key = self._key_of(job) if job is not None else None
        if key is None:  # a lost node's: no marker certifies what it wrote
            return
        self._results[key] += 1
        self.world.note(f"result of {self._names[key]}")
        if self._results[key] > 1:
            self.complain("twice", f"{self._names[key]} ran {self._results[key]} times to a result")
        told, attempt = self._told.get(key, ("", 0))
        if told in ("failed", "cancelled") and job is not None and self._member(job)["attempt"] <= attempt:
            self.complain("false", f"{self._names[key]} was told as {told}, and ran to a result")

    def accepted(self, job: SlurmJob) -> None:
        """The site has one job more: it must not be one that everybody could see to be there, or to be done."""
        member = self._member(job)
        twins = [one for one in self.cluster.jobs.values() if one is not job and self._member(one) == member]
        told = [one.id for one in twins if self.programs.answered.get(one.base, job.ordered) < job.ordered]
        if told:
            self.complain("twice", f"{job.id} was ordered, and sbatch had told of {told} of the same attempt")
        shown = [
            one.id for one in twins if one.state in ("PENDING", "RUNNING") and self.world.now - one.submitted > 60.0
        ]
        if shown and not {"accepted-late", "sbatch-slow"} & {*self.plan.kinds()} and not self._blind():
            self.complain("twice", f"{job.id} was ordered, and {shown} of the same attempt could be seen")
        certified = "person-cancels" not in self.plan.kinds() or any(Path(member["folder"]).glob("marker-*.json"))
        known = self._results[member["key"]] and certified  # else its node died in between, and nobody has looked yet
        if known and self._told.get(member["key"]) is None and not self._late(job):
            self.complain("twice", f"{job.id} was ordered, and {self._names[member['key']]} has its result")

    def _late(self, job: SlurmJob) -> bool:
        """Whether the site accepted it long after it was ordered."""
        return self.world.now - job.ordered > 1.0

    def _blind(self) -> bool:
        return any(kind.startswith(("squeue", "root", "leaking")) for kind in self.plan.kinds())

    def damaged(self, job: SlurmJob) -> Path:
        """The result of `job`, which does not count any more."""
        member = self._member(job)
        self._results[member["key"]] -= 1
        return Path(member["folder"]) / "result.json"

    def _lost_node(self, process: Process) -> bool:
        """Whether this is a run that Slurm gave up without being able to end it."""
        return not any(process in job.processes for job in self.cluster.jobs.values())

    def _alive(self, key: str) -> dict[Process, tuple[str, float]]:
        found = {process: seen for process, seen in self._working.get(key, {}).items() if not process.dead}
        self._working[key] = found
        return found

    def _name(self, folder: str) -> str:
        return next((name for key, name in self._names.items() if key.startswith(folder)), folder)

    def _member(self, job: SlurmJob) -> dict[str, Any]:
        content = json.loads((job.script.parent / "submission.json").read_text())
        member: dict[str, Any] = content["members"][int(job.id.partition("_")[2] or 0)]
        return member

    def _key_of(self, job: SlurmJob) -> str | None:
        try:
            return str(self._member(job)["key"])
        except FileNotFoundError:
            return None

    # -- patrol
    def patrol(self) -> None:
        """Look around every so often while the history runs."""
        self.world.spawn("watchman", Host("watch"), self._walk, PATROL_S)

    def _walk(self) -> None:
        while not self.violations:
            self.look_around()
            for folder in list(self._working):
                runs = self._alive(folder)
                if len(runs) > 1 and min(self.world.now - since for _, since in runs.values()) > OVERLAP_S:
                    self.complain("twice", f"two attempts of {self._name(folder)} wrote for a minute")
            self.world.sleep(PATROL_S)

    def look_around(self) -> None:
        """Journals, cancellations and tries so far."""
        for entry in self.journals():
            self._obeyed(entry)
        self._cancellations()
        self._tries()

    def harms(self, name: str) -> list[str]:
        """What the site did to a job, under any of its ids."""
        return [what for job, what in self.cluster.harms if self._names.get(self._key_of(job) or "") == name]

    def journals(self) -> list[dict[str, Any]]:
        """Every journal there is; a complaint about one that cannot be read, or whose attempts went back."""
        entries = []
        for path in (self.flows.root / "jobs").glob("*/*/journal.json"):
            try:
                entry = json.loads(path.read_bytes())
                numbers = [one["number"] for one in entry["attempts"]]
            except (ValueError, KeyError) as error:
                self.complain("whole", f"{path.parent.name}: {error!r}")
                continue
            if numbers != sorted(set(numbers)) or numbers[-1] < self._attempts.get(entry["key"], 0):
                self.complain("monotone", f"{entry['spec']['name']}: attempts {numbers}")
            self._attempts[entry["key"]] = numbers[-1]
            entries.append(entry)
        return entries

    def _tries(self) -> None:
        tried = Counter(token.partition(".")[0] for _, program, token in self.programs.calls if program == "sbatch")
        for name, times in tried.items():
            if times > MOST_TRIES + 3 * len(self.cluster.harms):
                self.complain("bounded", f"{name} was given to sbatch {times} times")

    def _cancellations(self) -> None:
        fresh = self.cluster.cancellations[self._seen_cancellations :]
        self._seen_cancellations += len(fresh)
        for _, job, by in fresh:
            if self._unasked(job):
                self.complain("cancelled", f"{by.name} cancelled {job.id} ({job.folder}), which nobody asked for")

    def _obeyed(self, entry: dict[str, Any]) -> None:
        """What a person cancelled leaves the queue, once scancel reaches the site and somebody waits for the job."""
        token, owner = entry["attempts"][-1]["token"], self.flows.owners.get(entry["owner"])
        left = [
            job.id
            for job in self.cluster.jobs.values()
            if job.folder == token and job.state in ("PENDING", "RUNNING") and not job.purged
        ]
        hindered = any(map(self.cluster.on, ("scancel-lost", "squeue-down", "squeue-hangs", "squeue-cut", "root-full")))
        waited_for = owner is not None and not owner.dead and owner.stopped <= self.world.now
        if not left or hindered or not waited_for or (entry["cancel"] or {}).get("by") != "person":
            self._asked.pop(entry["key"], None)
        elif self.world.now - self._asked.setdefault(entry["key"], self.world.now) > CANCELLED_S:
            self.complain("bounded", f"a person cancelled {left}, which still waits or runs")

    def _unasked(self, job: SlurmJob) -> bool:
        """Whether nothing explains that a dispatcher cancelled `job`."""
        twins = sum(1 for one in self.cluster.jobs.values() if one.folder == job.folder and one.base != job.base)
        try:
            member = self._member(job)
            entry = json.loads((Path(member["folder"]) / "journal.json").read_bytes())
        except FileNotFoundError:
            return False
        if twins or entry["attempts"][-1]["token"] != job.folder:
            return False
        by = (entry["cancel"] or {}).get("by")
        return by != "person" and self.flows.alive(entry["owner"]) and by is not None
