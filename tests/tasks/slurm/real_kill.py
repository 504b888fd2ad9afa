"""Twenty kill -9 trials on the real Slurm: dispatchers killed at named points, then one that takes over everything.

    python real_kill.py ROOT TRACE TRIALS

Prints one JSON line: how the first dispatchers ended, and the outcomes of the last one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kill_trials import in_fork

from tasks.slurm import faults, submit  # noqa: F401  (imported once, before the forks)
from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import load_profile


def dispatcher(root: Path) -> Dispatcher:
    """A dispatcher that looks every second."""
    profile = load_profile("slurm-dev")
    sections = {
        stage: section.model_copy(update={"environment": (*section.environment, "GATED_FAULT*"), "memory": "256MB"})
        for stage, section in profile.stages.items()
    }
    profile = profile.model_copy(update={"stages": sections, "settle_seconds": 3.0, "marker_grace_seconds": 0.5})
    return Dispatcher(profile, root, scheduler=Slurm(poll_seconds=1.0, floor_seconds=1.0, memory_seconds=2.0))


def specs(trace: Path, trials: int) -> list[JobSpec]:
    """One job a trial."""
    return [JobSpec(f"trial-{n}", "slurm_jobs:echo", {"n": n, "trace": str(trace)}) for n in range(trials)]


def one(root: Path, spec: JobSpec) -> None:
    """Submit and wait, as a flow would."""
    door = dispatcher(root)
    deadline = time.time() + 5
    for _ in door.wait(door.submit([spec]), stop=lambda: False):
        return
    assert time.time() < deadline


def main(root: Path, trace: Path, trials: int) -> None:
    """Kill, then take over."""
    first = []
    for n, spec in enumerate(specs(trace, trials)):
        point = faults.POINTS[n % len(faults.POINTS)]
        fault = {faults.VARIABLE: point, f"{faults.VARIABLE}_ONCE": str(root.parent / f"once-{n}")}
        status = in_fork(lambda spec=spec: one(root, spec), fault) if point in faults.DISPATCHER_POINTS else None
        if point in faults.NODE_POINTS:
            in_fork(lambda spec=spec: dispatcher(root).submit([spec]), fault)  # the node's process is the one to die
        first.append([point, status])
    door = dispatcher(root)
    events: list[dict[str, Any]] = []
    outcomes = {
        outcome.spec.name: [outcome.state, outcome.message, list(outcome.slurm_ids)]
        for outcome in door.wait(door.submit(specs(trace, trials)))
    }
    print(json.dumps({"first": first, "outcomes": outcomes, "events": events, "pid": os.getpid()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
