"""kill -9 at every named crash point, seeded, on the fake Slurm: nothing lost, nothing duplicated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.slurm import faults

TRIALS = int(os.environ.get("GATED_KILL_TRIALS", "203"))
PROCESSES = 2


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All trials, in two processes of their own: a fork of pytest itself would be slow."""
    memory = Path("/dev/shm")
    base = tmp_path_factory.mktemp("kill")
    script = Path(__file__).with_name("kill_trials.py")
    running = []
    for number in range(PROCESSES):
        folder = (memory if os.access(memory, os.W_OK) else base) / f"gated-kill-{os.getpid()}-{number}"
        folder.mkdir()
        first, count = TRIALS * number // PROCESSES, TRIALS * (number + 1) // PROCESSES - TRIALS * number // PROCESSES
        command = [sys.executable, str(script), str(folder), str(first), str(count)]
        running.append((folder, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    found = []
    for folder, process in running:
        out, err = process.communicate(timeout=300)
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        assert process.returncode == 0, err[-2000:]
        found += [json.loads(line) for line in out.splitlines()]
    return found


@pytest.mark.parametrize("point", faults.POINTS)
def test_nothing_is_lost_and_nothing_is_duplicated(trials: list[dict[str, Any]], point: str) -> None:
    own = [trial for trial in trials if trial["point"] == point]
    assert len(own) >= TRIALS // len(faults.POINTS)
    for trial in own:
        if point in faults.DISPATCHER_POINTS:
            assert trial["first"] == -9, trial  # it was really killed
        assert trial["second"] == 0, trial
        names = {f"job-{n}" for n in range(trial["jobs"])}
        assert set(trial["outcomes"]) == names, trial
        assert all(state == "done" for state, *_ in trial["outcomes"].values()), trial
        assert trial["submitted"] == trial["jobs"], trial
        assert trial["executed"] == sorted(str(n) for n in range(trial["jobs"])), trial
