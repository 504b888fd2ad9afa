"""kill -9 at every named crash point, seeded, on the fake Slurm: nothing lost, nothing duplicated."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.slurm import faults

FEW = 3 * len(faults.POINTS)  # each point by each kind of acceptance
MANY = int(os.environ.get("GATED_KILL_TRIALS", "203"))
PROCESSES = 2


def _trials(base: Path, trials: int) -> list[dict[str, Any]]:
    """All trials, in two processes of their own: a fork of pytest itself would be slow."""
    memory = Path("/dev/shm")
    script = Path(__file__).with_name("kill_trials.py")
    running = []
    for number in range(PROCESSES):
        folder = (memory if os.access(memory, os.W_OK) else base) / f"gated-kill-{os.getpid()}-{number}"
        folder.mkdir()
        first, beyond = trials * number // PROCESSES, trials * (number + 1) // PROCESSES
        command = [sys.executable, str(script), str(folder), str(first), str(beyond - first)]
        running.append((folder, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    found = []
    for folder, process in running:
        out, err = process.communicate(timeout=300)
        shutil.rmtree(folder)
        assert process.returncode == 0, err[-2000:]
        found += [json.loads(line) for line in out.splitlines()]
    return found


def _lost_or_duplicated(trial: dict[str, Any]) -> bool:
    names = {f"job-{n}" for n in range(trial["jobs"])}
    return (
        set(trial["outcomes"]) != names
        or any(state != "done" for state, *_ in trial["outcomes"].values())
        or trial["submitted"] != trial["jobs"]
        or trial["executed"] != sorted(str(n) for n in range(trial["jobs"]))
    )


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_nothing_is_lost_and_nothing_is_duplicated(number: int, tmp_path: Path) -> None:
    trials = _trials(tmp_path, number)
    points = collections.Counter(trial["point"] for trial in trials)
    assert len(trials) == number
    assert set(points) == set(faults.POINTS)
    assert max(points.values()) - min(points.values()) <= 1
    unkilled = [t for t in trials if t["point"] in faults.DISPATCHER_POINTS and t["first"] != -9]
    assert not unkilled
    assert {trial["crash"] for trial in trials if trial["point"] == "during_sbatch"} == {"before", "after", "survivor"}
    assert not [trial for trial in trials if trial["second"] != 0 or _lost_or_duplicated(trial)]
