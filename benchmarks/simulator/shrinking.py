"""A failing history made small: faults and jobs dropped one by one while the same invariant still breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from benchmarks.simulator.history import Told, run
from benchmarks.simulator.plan import Plan

LAST_LINES = 120


def shrink(told: Told, patch: Callable[[], AbstractContextManager[object]] | None = None) -> Told:
    """The smallest history found that breaks the same invariant."""
    kind, smaller = told.violations[0].kind, True
    while smaller:
        smaller = False
        for plan in _simpler(told.plan):
            again = run(plan, patch)
            if any(one.kind == kind for one in again.violations):
                told, smaller = again, True
                break
    return told


def _simpler(plan: Plan) -> Iterator[Plan]:
    yield from (plan.without(fault) for fault in plan.faults)
    if len(plan.works) > 1:
        last = len(plan.works) - 1
        if all(fault.target != last for fault in plan.faults):
            yield replace(plan, works=plan.works[:-1], array=False)
    calm: dict[str, Any] = {
        "array": False,
        "nfs_s": 0.0,
        "skews": (0.0, 0.0),
        "keep_s": 300.0,
        "lag_s": 1.0,
        "accounting": "works",
    }
    for name, value in calm.items():
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})


def shown(told: Told, *, whole: bool = False) -> str:
    """The history for a reader: plan, record, what broke."""
    lines = told.record if whole else told.record[-LAST_LINES:]
    plan = "\n".join(f"  {fault}" for fault in told.plan.faults)
    ends = "\n".join(f"{one.kind}: {one.text}" for one in told.violations) or "every invariant held"
    return f"{replace(told.plan, faults=())}\n{plan}\n" + "\n".join(lines) + f"\nseed {told.plan.seed}: {ends}"
