"""The machine that served the deployments dies with everything on it; its next start ends the jobs it left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from flow_lab import ROOT, Lab, house, processes_below, tiny, until

pytestmark = pytest.mark.prefect
SWEPT_S = 30.0


def _die(lab: Lab) -> None:
    """kill -9 of flows, runner, server and house; jobs live on, as they do on their nodes."""
    home = lab.env["PREFECT_HOME"]
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("PREFECT_HOME") == home or home in " ".join(process.cmdline())
            if mine and not any("tasks.slurm" in part for part in process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def test_the_next_start_ends_what_a_dead_machine_left(tmp_path: Path, mini_corpus_root: Path) -> None:
    endless = tiny(epochs=100_000, early_stop_patience=100_000)
    with house(tmp_path, mini_corpus_root) as lab:
        dead = lab.start("cross-validation/five-fold", {"folds": [1], "training": endless})
        _, folder = lab.job_started(dead, "train-fold_01")
        kept = lab.start("cross-validation/five-fold", {"folds": [2], "training": endless, "where": {"detach": True}})
        until("the detached job", lambda: [1 for entry, _ in lab.jobs("train-fold_02") if entry.owner == kept])
        _die(lab)
        assert processes_below(folder)
    try:
        with house(tmp_path, mini_corpus_root) as lab:
            until("the end of the orphan", lambda: not processes_below(folder), SWEPT_S)
            ((entry, _),) = lab.jobs("train-fold_01")
            assert entry.cancel is not None
            ((entry, _),) = lab.jobs("train-fold_02")
            assert (entry.state, entry.cancel) == ("live", None)
    finally:
        command = [sys.executable, "-m", "tasks.slurm", "cancel", "--profile", "local"]
        subprocess.run([*command, "--root", str(lab.artifacts / "jobs")], cwd=ROOT, check=True, capture_output=True)
