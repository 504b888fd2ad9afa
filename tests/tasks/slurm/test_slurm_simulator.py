"""Seeded histories of a site that lies, lags, loses and fills up: no invariant of the dispatcher breaks.

`GATED_HISTORIES` and `GATED_SEED` choose others; a violation is printed with its seed and its shrunk history.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.simulator.history import run
from benchmarks.simulator.plan import EVENTS, KINDS, UNMENDED, WINDOWS, Fault, Plan, Work, draw
from benchmarks.simulator.shrinking import shown, shrink

HISTORIES, SEED = int(os.environ.get("GATED_HISTORIES", "500")), int(os.environ.get("GATED_SEED", "0"))
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("part", range(4))
def test_no_invariant_breaks(part: int) -> None:
    for seed in range(SEED + part, SEED + HISTORIES, 4):
        told = run(draw(seed))
        assert not told.violations, shown(shrink(told))


def test_a_second_watcher_does_not_take_the_absence_of_one_attempt_for_that_of_the_next() -> None:
    plan = Plan(
        seed=474,
        works=(Work("job-0", "ok", 48.0, 40.0), Work("job-1", "ok", 68.0, 5.0)),
        faults=(
            Fault("sbatch-limit", 53.0, 111.0),
            Fault("damaged", 55.8, point="marker_written"),
            Fault("second-flow", 113.8),
        ),
        array=False,
        detach=False,
        accounting="absent",
        keep_s=5.0,
        lag_s=1.0,
        nfs_s=0.0,
        skews=(0.0, 45.0),
        tick_s=3.0,
    )
    told = run(plan)
    assert not told.violations, shown(told)
    assert any("vanished" in line for line in told.record)


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
