"""Seeded trials of kill -9: a dispatcher is killed at a named point, another one takes over; prints one JSON a trial.

    python kill_trials.py FOLDER FIRST_SEED TRIALS

Every trial runs on the fake Slurm, in forks of this one process, so that 200 of them take seconds.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fake_slurm import FakeSlurm

from tasks.slurm import faults, submit  # noqa: F401  (imported once, before the forks)
from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import Profile, load_profile
from tasks.slurm.snapshot import Snapshot


def quick_profile(**changes: Any) -> Profile:
    """The test cluster's profile with waits of hundredths of a second."""
    waits = {"poll_seconds": 0.02, "settle_seconds": 0.08, "marker_grace_seconds": 0.02, "vanish_seconds": 0.2}
    return load_profile("slurm-dev").model_copy(update={**waits, "usage_seconds": 30.0, **changes})


def dispatch(folder: Path, code: Snapshot, plan: dict[str, Any], crash: str = "") -> dict[str, Any]:
    """Submit and wait, as a flow would; the outcomes by name."""
    fake = FakeSlurm(folder / "slurm", execute=True, crash=crash)
    scheduler = Slurm(fake, folder=folder / "poll", poll_seconds=0.02, floor_seconds=0.01, memory_seconds=0.02)
    dispatcher = Dispatcher(
        quick_profile(),
        folder / "root",
        code=code,
        scheduler=scheduler,
        sleep=lambda seconds: time.sleep(min(seconds, 0.01)),
    )
    specs = [
        JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n, "trace": str(folder / "trace")}) for n in range(plan["jobs"])
    ]
    jobs = dispatcher.submit(specs, array=plan["array"])
    deadline = time.time() + 20
    outcomes = dispatcher.wait(jobs, stop=lambda: time.time() > deadline)
    return {outcome.spec.name: [outcome.state, outcome.cause, outcome.message] for outcome in outcomes}


def in_fork(work: Any, environment: dict[str, str]) -> int:
    """Run `work` in a fork with more environment; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def trial(folder: Path, code: Snapshot, seed: int) -> dict[str, Any]:
    """One seeded trial."""
    rng = random.Random(seed)
    point = faults.POINTS[seed % len(faults.POINTS)]
    array = rng.random() < 0.3
    plan = {"jobs": rng.choice((2, 3)) if array else 1, "array": array}
    kinds = ("before", "after", "survivor")  # of the acceptance; or sbatch goes on although its caller is dead
    crash = kinds[seed // len(faults.POINTS) % 3] if point == "during_sbatch" else ""
    folder.mkdir()
    FakeSlurm(folder / "slurm").knob(sacct=rng.choice(("down", "absent", "works")) if crash != "before" else "works")
    fault = {faults.VARIABLE: point, f"{faults.VARIABLE}_ONCE": str(folder / "once")}
    first = in_fork(lambda: dispatch(folder, code, plan, crash), fault)
    answer = folder / "outcomes.json"
    second = in_fork(lambda: answer.write_text(json.dumps(dispatch(folder, code, plan))), {})
    jobs = FakeSlurm(folder / "slurm").jobs()
    trace = folder / "trace"
    return {
        "seed": seed,
        "point": point,
        "crash": crash,
        "jobs": plan["jobs"],
        "first": first,
        "second": second,
        "outcomes": json.loads(answer.read_text()) if answer.exists() else {},
        "submitted": len(jobs),
        "executed": sorted(line.split()[0] for line in trace.read_text().splitlines()) if trace.exists() else [],
    }


def main(folder: Path, first: int, trials: int) -> None:
    """Run the trials."""
    code = Snapshot.take(folder / "shared", ["slurm_jobs"])
    for seed in range(first, first + trials):
        print(json.dumps(trial(folder / f"trial-{seed}", code, seed)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
