"""One seed -> one plan: jobs, flows, hosts, and the faults with their times. Plain data: printed, repeated, shrunk."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tasks.slurm.faults import DISPATCHER_POINTS, NODE_POINTS

# Kinds of fault, by what they are: a window of time, or one event. The numbers: (seconds from, to), (value from, to).
WINDOWS: dict[str, tuple[float, float, float, float]] = {
    "sbatch-lies": (5, 60, 0, 0), "sbatch-side-line": (5, 60, 0, 0), "sbatch-no-user": (5, 60, 0, 0),
    "sbatch-inactive": (5, 90, 0, 0), "sbatch-down": (5, 60, 0, 0), "sbatch-limit": (30, 200, 0, 0),
    "sbatch-eagain": (2, 20, 0, 0), "sbatch-slow": (10, 60, 5, 85), "accepted-late": (60, 200, 5, 90),
    "squeue-down": (20, 300, 0, 0), "squeue-cut": (20, 300, 0, 0), "squeue-hangs": (10, 60, 0, 0),
    "sacct-down": (20, 600, 0, 0), "sacct-stale": (60, 400, 0, 0), "sacct-hangs": (10, 60, 0, 0),
    "scancel-lost": (5, 60, 0, 0), "het-rows": (7200, 86400, 0, 0), "newline-name": (7200, 86400, 0, 0),
    "prolog-fails": (60, 300, 0, 0), "poll-full": (30, 300, 0, 0), "root-full": (10, 120, 0, 0),
    "node-full": (5, 60, 0, 0),
}  # fmt: skip
EVENTS = (
    "requeue", "preempt", "node-kill", "time-limit", "flow-kill", "flow-kill-point", "node-kill-point", "flow-stop",
    "node-lost", "damaged", "person-cancels",
    "cancelled-by-hand", "purged-by-hand", "renamed", "poll-removed", "sweeper", "second-flow",
    "leaking-environment", "two-nodes",
)  # fmt: skip
TOGETHER = (  # what bites only in company
    ("flow-stop", "sweeper"), ("flow-stop", "person-cancels", "sbatch-slow"), ("second-flow", "flow-kill-point"),
    ("sbatch-lies", "accepted-late"), ("sbatch-lies", "accepted-late", "person-cancels"), ("sbatch-lies", "flow-kill"),
    ("person-cancels", "scancel-lost"), ("sweeper", "second-flow"), ("sacct-down", "node-kill"), ("purged-by-hand",),
    ("renamed",), ("sbatch-lies", "het-rows"), ("node-lost", "sacct-down"), ("damaged", "second-flow"),
)  # fmt: skip
# What wakes each kind of fault that trials on real sites showed (kind 8, a profile of somebody else's, has no history):
# names of faults, of works, or first words of a job's name.
KINDS: dict[int, tuple[str, ...]] = {
    1: ("poll-removed", "poll-full"),
    2: ("het-rows", "newline-name"),
    3: ("lua", "unwritable", "overlong", "prolog-fails"),
    4: ("sbatch-side-line", "sbatch-no-user", "sbatch-inactive", "sbatch-eagain"),
    5: ("two-nodes",),
    6: ("unprintable",),
    7: ("leaking-environment",),
    9: ("purged-by-hand", "renamed"),
    10: ("flow-stop", "clock-ahead"),
}
CHAINED = 1 / 12  # of all histories; what a chain holds up, a draw of single faults hardly ever reaches
UNMENDED: frozenset[int] = frozenset()  # kinds that the shipped code does not stand: left out unless asked for
EARLY = ("sbatch-", "accepted-late", "flow-kill-point")  # nothing to spoil later on


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, at `at` seconds; `length` for a window, `value` and `point` as the kind needs them."""

    kind: str
    at: float
    length: float = 0.0
    value: float = 0.0
    target: int = 0
    point: str = ""


@dataclass(frozen=True)
class Work:
    """One job: what it does (`ok`, `bug`, `unprintable`, `nan`) for how long. Its name tells the site to refuse it."""

    name: str
    does: str
    seconds: float
    wait: float


@dataclass(frozen=True)
class Plan:
    """Everything that a history depends on."""

    seed: int
    works: tuple[Work, ...]
    faults: tuple[Fault, ...]
    array: bool
    detach: bool
    accounting: str
    keep_s: float  # MinJobAge
    lag_s: float  # of accounting
    nfs_s: float  # how long a client believes that a name is not there
    skews: tuple[float, float]  # of the two login hosts
    tick_s: float

    def without(self, fault: Fault) -> Plan:
        """This plan with one fault less."""
        return replace(self, faults=tuple(one for one in self.faults if one is not fault))

    def kinds(self) -> tuple[str, ...]:
        """Kinds of its faults."""
        return tuple(one.kind for one in self.faults)


def draw(seed: int, with_kinds: frozenset[int] | None = None) -> Plan:
    """The plan of a seed; kinds of fault that the code does not stand appear only where `with_kinds` names them."""
    rng = random.Random(seed * 7919 + 17)
    barred = {word for kind in UNMENDED - (with_kinds or frozenset()) for word in KINDS[kind]}
    works = tuple(_work(rng, number, barred) for number in range(rng.choice((1, 1, 2, 3))))
    kinds = rng.sample([*WINDOWS, *EVENTS], rng.choice((1, 2, 2, 3, 3, 4, 5)))
    kinds += [one for one in rng.choice(TOGETHER) if one not in kinds] if rng.random() < 0.3 else []
    kinds = [one for one in kinds if one not in barred]
    ahead = rng.choice((0.0, 0.0, -45.0, 45.0, 600.0))
    plan = Plan(
        seed=seed,
        works=works,
        faults=tuple(sorted((_fault(rng, kind, len(works)) for kind in kinds), key=lambda one: one.at)),
        array=len(works) > 1 and rng.random() < 0.4,
        detach=rng.random() < 0.3,
        accounting="absent" if rng.random() < 0.2 else "works",
        keep_s=rng.choice((5.0, 60.0, 300.0, 300.0)),
        lag_s=rng.choice((0.5, 1.0, 5.0, 30.0)),
        nfs_s=rng.choice((0.0, 0.0, 3.0, 15.0)),
        skews=(0.0, max(-20.0, min(20.0, ahead)) if "clock-ahead" in barred else ahead),
        tick_s=rng.choice((1.0, 2.0, 3.0)),
    )
    chance = random.Random(f"chain {seed}")  # of its own: all other plans stay what they were
    return chance.choice(CHAINS)(plan, chance) if chance.random() < CHAINED else plan


def _work(rng: random.Random, number: int, barred: set[str]) -> Work:
    names = ("job",) * 36 + ("lua", "unwritable", "overlong", "nowhere")
    does = ("ok",) * 9 + ("bug", "unprintable", "nan")
    name, task = rng.choice(names), rng.choice(does)
    name, task = "job" if name in barred else name, "ok" if task in barred else task
    return Work(f"{name}-{number}", task, rng.uniform(10, 120), rng.choice((1.0, 5.0, 40.0)))


def _fault(rng: random.Random, kind: str, works: int) -> Fault:
    at = rng.uniform(1.0, 150.0)
    if kind.startswith(EARLY) and rng.random() < 0.8:
        at = rng.choice((0.0, 0.0, rng.uniform(0.0, 8.0)))  # the first sbatch comes within a second
    low, high, least, most = WINDOWS.get(kind, (0.0, 0.0, 0.0, 0.0))
    if kind in ("het-rows", "newline-name"):
        at = rng.uniform(0.0, 20.0)
    points = DISPATCHER_POINTS if kind == "flow-kill-point" else NODE_POINTS
    value = rng.uniform(least, most) if most else rng.uniform(30.0, 240.0)
    return Fault(
        kind, round(at, 1), round(rng.uniform(low, high), 1), round(value, 1), rng.randrange(works), rng.choice(points)
    )


# Chains: faults that are harmless alone or at another time, in the order and at the times at which they bite.
def twins(plan: Plan, rng: random.Random) -> Plan:
    """An order that was believed lost is accepted while the job of the next one runs: two Slurm jobs of one attempt."""
    lie, late = Fault("sbatch-lies", 0.0, 12.0), Fault("accepted-late", 0.0, 12.0, round(rng.uniform(45.0, 80.0), 1))
    return _with(plan, Work("job-0", "ok", 118.0, 1.0), lie, late)


def cancelled_in_doubt(plan: Plan, rng: random.Random) -> Plan:
    """A person cancels while nobody knows of the job; the site accepts it once everybody believes that it is over."""
    lie, late = Fault("sbatch-lies", 0.0, 60.0), Fault("accepted-late", 0.0, 60.0, round(rng.uniform(60.0, 90.0), 1))
    return _with(plan, Work("job-0", "ok", 40.0, 1.0), lie, late, Fault("person-cancels", round(rng.uniform(4, 12), 1)))


def known_by_its_reply(plan: Plan, rng: random.Random) -> Plan:
    """Whoever called sbatch dies with the answer on disk, and nobody finds the waiting job by its name any more."""
    crash = Fault("flow-kill-point", 0.0, point="after_sbatch")
    return _with(plan, Work("job-0", "ok", 30.0, 150.0), crash, Fault("renamed", round(rng.uniform(1.0, 6.0), 1)))


def held_and_cancelled(plan: Plan, rng: random.Random) -> Plan:
    """The one scancel is lost, and the job is held after a failed launch: it never ends by itself."""
    at = round(rng.uniform(8.0, 25.0), 1)
    lost = Fault("scancel-lost", at - 1.0, 20.0)
    held = Fault("prolog-fails", 0.0, 300.0, point="every node")
    return _with(plan, Work("job-0", "ok", 60.0, 1.0), held, lost, Fault("person-cancels", at))


CHAINS = (twins, cancelled_in_doubt, known_by_its_reply, held_and_cancelled)


def _with(plan: Plan, work: Work, *faults: Fault) -> Plan:
    """`plan` with its first job and all its faults replaced; what the site is like stays."""
    ordered = tuple(sorted(faults, key=lambda one: one.at))
    return replace(plan, works=(work, *plan.works[1:]), faults=ordered, array=False)
