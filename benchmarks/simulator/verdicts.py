"""Judgement at a history's end: every job has its verdict, each verdict is explained, nothing is left."""

from __future__ import annotations

from benchmarks.simulator.site import REFUSED
from benchmarks.simulator.watchman import Watchman
from benchmarks.simulator.world import EPOCH
from tasks.slurm.dispatcher import Outcome

HELD_BEHIND_S = 900.0  # a faultless job is in the queue this long after the last fault of sbatch
ALWAYS_FAIL = ("bug", "unprintable")
# faults after which nobody can know that a job was cancelled by hand (accepted-late: it may have been a surplus twin)
SPOILED = {"squeue", "sacct", "poll", "flow", "leaking", "root", "renamed", "newline", "het"}


def judge(watchman: Watchman, finished: bool) -> None:
    """Complain to `watchman` about what does not hold; `finished`: every flow is over and the queue is empty."""
    if watchman.violations:
        return
    watchman.look_around()
    flows, cluster = watchman.flows, watchman.cluster
    if not finished:
        left = {flow.owner: sorted(watchman.does.keys() - flow.outcomes.keys()) for flow in flows.flows}
        active = [job.id for job in cluster.jobs.values() if job.ended is None and not job.purged]
        watchman.complain("lost", f"no end after {watchman.world.now - EPOCH:.0f} s: {left} {active}")
        return
    for flow in flows.flows:
        for name, outcome in flow.outcomes.items():
            _verdict(watchman, name, outcome)
    for entry in watchman.journals():
        if entry["state"] == "live" and not any(flow.refused for flow in flows.flows):
            watchman.complain("whole", f"{entry['spec']['name']} is live in the journal, and every flow is over")
    _held_behind(watchman)


def _verdict(watchman: Watchman, name: str, outcome: Outcome) -> None:
    harms, does = watchman.harms(name), watchman.does[name]
    if outcome.state == "done" and (outcome.result is None or does in ALWAYS_FAIL):
        watchman.complain("false", f"{name} is done without a result")
    if outcome.state == "cancelled" and not _cancel_explained(watchman, harms):
        watchman.complain("false", f"{name} is told as cancelled, and nobody cancelled it")
    if outcome.state == "failed":
        _failure(watchman, name, outcome, harms)
    starts = watchman.begun[outcome.key[:20]]
    if does in ALWAYS_FAIL and starts > 2 + 2 * len(harms) + sum(flow.starts for flow in watchman.flows.flows):
        watchman.complain("bounded", f"{name}, which always fails, was started {starts} times")
    _by_hand(watchman, name, outcome, harms)


def _failure(watchman: Watchman, name: str, outcome: Outcome, harms: list[str]) -> None:
    does = watchman.does[name]
    kinds = {*watchman.plan.kinds()}
    excused = does in ALWAYS_FAIL or name.partition("-")[0] in REFUSED or len(harms) >= 2
    no_room = "root-full" in kinds or ("node-full" in kinds and outcome.cause != "exception")
    if not excused and not no_room and "two-nodes" not in kinds:
        watchman.complain("false", f"{name} failed with {outcome.cause}: {outcome.message[:200]}")
    if does in ALWAYS_FAIL and outcome.cause == "interrupted":
        watchman.complain("false", f"{name} raised an error, and is told as interrupted")


def _cancel_explained(watchman: Watchman, harms: list[str]) -> bool:
    died = bool(watchman.flows.gone) and not watchman.plan.detach
    return died or "person-cancels" in watchman.plan.kinds() or any("scancel" in one for one in harms)


def _by_hand(watchman: Watchman, name: str, outcome: Outcome, harms: list[str]) -> None:
    """What a person cancelled with scancel stays cancelled, where anybody can know of it."""
    if len(harms) != 1 or "scancel by hand" not in harms[0] or outcome.state == "cancelled":
        return
    plan, flows = watchman.plan, watchman.flows
    calm = not any(kind.partition("-")[0] in SPOILED or kind == "accepted-late" for kind in plan.kinds())
    known = calm and (plan.keep_s >= 60.0 or plan.accounting == "works")
    asked_again = bool(flows.gone) or len(flows.flows) > 1 or outcome.reused
    failed_itself = watchman.does[name] != "ok" and outcome.state == "failed"
    if known and not asked_again and not failed_itself:
        watchman.complain("false", f"{name} was cancelled by hand, and is told as {outcome.state}")


def _held_behind(watchman: Watchman) -> None:
    """A faultless job must not wait for one that is refused."""
    windows = watchman.cluster.windows.items()
    calm = max([EPOCH, *(end for name, spans in windows if name.startswith("sb") for _, end, _ in spans)])
    first: dict[str, float] = {}
    for when, program, token in watchman.programs.calls:
        if program == "sbatch":
            first.setdefault(token.partition(".")[0], when)
    if watchman.flows.gone or watchman.plan.array:
        return
    for name in watchman.does:
        late = first.get(name, 0.0) - calm
        if late > HELD_BEHIND_S and name.partition("-")[0] not in REFUSED:
            watchman.complain("bounded", f"{name} was first submitted {late:.0f} s after the last fault")
