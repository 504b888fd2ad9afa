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
from benchmarks.simulator.plan import WINDOWS, draw
from benchmarks.simulator.shrinking import shown, shrink

HISTORIES, SEED = int(os.environ.get("GATED_HISTORIES", "500")), int(os.environ.get("GATED_SEED", "0"))
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("part", range(4))
def test_no_invariant_breaks(part: int) -> None:
    for seed in range(SEED + part, SEED + HISTORIES, 4):
        told = run(draw(seed))
        assert not told.violations, shown(shrink(told))


def test_a_seed_is_a_history() -> None:
    first, again = run(draw(SEED + 3)), run(draw(SEED + 3))
    assert first.record == again.record
    assert first.record != run(draw(SEED + 4)).record


def test_the_seeds_reach_every_fault() -> None:
    kinds = {kind for seed in range(HISTORIES) for kind in draw(seed).kinds()}
    assert set(WINDOWS) <= kinds


def test_the_door_says_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.simulator", "--histories", "5", "--seed", "0", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    told = json.loads(done.stdout)
    assert told["first_seed"] == 0
    assert done.returncode == int(told["violations"] > 0)
    assert told["histories"] == 5 or told["violations"]
