"""Seeded histories of a site that lies, lags, loses and fills up: no invariant of the dispatcher breaks.

`GATED_HISTORIES` and `GATED_SEED` choose others; a violation is printed with its seed and its shrunk history.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.simulator import plan as plans
from benchmarks.simulator.history import run
from benchmarks.simulator.mutants import GUARDS
from benchmarks.simulator.plan import CHAINS, EVENTS, KINDS, UNMENDED, WINDOWS, Fault, Plan, Work, draw
from benchmarks.simulator.shrinking import shown, shrink

HISTORIES, SEED = int(os.environ.get("GATED_HISTORIES", "500")), int(os.environ.get("GATED_SEED", "0"))
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("part", range(4))
def test_no_invariant_breaks(part: int) -> None:
    for seed in range(SEED + part, SEED + HISTORIES, 4):
        told = run(draw(seed))
        assert not told.violations, shown(shrink(told))


CALM = Plan(
    seed=1, works=(), faults=(), array=False, detach=False, accounting="works", keep_s=300.0, lag_s=1.0, nfs_s=0.0,
    skews=(0.0, 0.0), tick_s=1.0,
)  # fmt: skip


def test_a_twin_that_is_accepted_after_a_cancellation_by_hand_does_nothing() -> None:
    lie, late = Fault("sbatch-lies", 0.0, 33.3), Fault("accepted-late", 0.0, 191.7, 43.7)
    faults = (lie, late, Fault("cancelled-by-hand", 16.4), Fault("flow-kill", 22.7))
    told = run(replace(CALM, works=(Work("job-0", "ok", 92.0, 1.0),), faults=faults))
    assert not told.violations, shown(told)
    assert sum("site: accepted" in line for line in told.record) == 2
    assert any("cancelled outside this dispatcher" in line for line in told.record)


def test_an_order_in_doubt_is_not_forgotten_when_the_next_try_meets_a_limit() -> None:
    lie, late = Fault("sbatch-lies", 0.0, 20.0), Fault("accepted-late", 0.0, 122.7, 73.7)
    faults = (lie, late, Fault("sbatch-limit", 20.0, 145.0))
    told = run(replace(CALM, works=(Work("job-0", "ok", 114.0, 5.0),), faults=faults))
    assert not told.violations, shown(told)
    assert any("event held" in line for line in told.record)
    assert sum("site: accepted" in line for line in told.record) == 1


def test_a_second_watcher_does_not_take_the_absence_of_one_attempt_for_that_of_the_next() -> None:
    works = (Work("job-0", "ok", 48.0, 40.0), Work("job-1", "ok", 68.0, 5.0))
    limit, damage = Fault("sbatch-limit", 53.0, 111.0), Fault("damaged", 55.8, point="marker_written")
    faults = (limit, damage, Fault("second-flow", 113.8))
    told = run(
        replace(CALM, works=works, faults=faults, accounting="absent", keep_s=5.0, skews=(0.0, 45.0), tick_s=3.0)
    )
    assert not told.violations, shown(told)
    assert any("vanished" in line for line in told.record)


def test_a_job_that_slurm_puts_back_is_not_given_up_while_the_queue_cannot_be_asked() -> None:
    faults = (Fault("requeue", 30.0), Fault("squeue-down", 36.0, 120.0))
    told = run(replace(CALM, works=(Work("job-0", "ok", 92.0, 1.0),), faults=faults))
    assert not told.violations, shown(told)
    assert sum("site: accepted" in line for line in told.record) == 1


GUARD_OF = {
    plans.twins: "two Slurm jobs may claim one attempt",
    plans.cancelled_in_doubt: "a run that was superseded goes on",
    plans.known_by_its_reply: "sbatch's own reply file is not read",
    plans.held_and_cancelled: "a cancellation is asked for once",
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_of_faults_is_harmless_and_bites_where_its_guard_is_taken_back(
    chain: Callable[[Plan, random.Random], Plan],
) -> None:
    guard = next(one for one in GUARDS if one.name == GUARD_OF[chain])
    plan = chain(draw(SEED), random.Random(SEED))
    told = run(plan)
    assert not told.violations, shown(told)
    assert run(plan, guard.patch).violations, f"{guard.name}: not found in {plan}"


def test_a_seed_is_a_history() -> None:
    first, again = run(draw(SEED + 3)), run(draw(SEED + 3))
    assert first.record == again.record
    assert first.record != run(draw(SEED + 4)).record


def test_the_seeds_reach_every_fault() -> None:
    every = {kind for seed in range(HISTORIES) for kind in draw(seed, frozenset(KINDS)).kinds()}
    assert every == {*WINDOWS, *EVENTS}
    left_out = {word for kind in UNMENDED for word in KINDS[kind]}
    assert {kind for seed in range(HISTORIES) for kind in draw(seed).kinds()} == every - left_out


def test_the_door_says_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.simulator", "--histories", "5", "--seed", "0", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    told = json.loads(done.stdout)
    assert told["first_seed"] == 0
    assert done.returncode == int(told["violations"] > 0)
    assert told["histories"] == 5 or told["violations"]
