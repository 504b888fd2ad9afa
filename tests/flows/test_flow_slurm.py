"""The flows on a real Slurm: the warm start end to end, folds as one array, a cancel that leaves the queue empty."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_lab import LENIENT, ROOT, Lab, house, tiny, until, warm_start

pytestmark = [pytest.mark.slurm, pytest.mark.prefect]
SCRIPTS = ROOT / "slurm_templates" / "lab"
ON_SLURM = {"profile": "slurm-dev", "device": "cpu"}
EMPTY_S = 30.0


@pytest.fixture(scope="module")
def on_slurm(tmp_path_factory: pytest.TempPathFactory, mini_corpus_root: Path) -> Iterator[Lab]:
    """A house whose jobs go to a two-node cluster of its own."""
    root = tmp_path_factory.mktemp("cluster") / "slurm"
    patch = pytest.MonkeyPatch()
    for name, value in {"SLURM_ROOT": root, "SLURM_CONF": root / "slurm.conf", "SLURM_DBD": "0"}.items():
        patch.setenv(name, str(value))
    subprocess.run([str(SCRIPTS / "slurm-up.sh")], check=True, capture_output=True)
    try:
        with house(tmp_path_factory.mktemp("house"), mini_corpus_root) as running:
            yield running
    finally:
        subprocess.run([str(SCRIPTS / "slurm-down.sh"), "--wipe"], check=False, capture_output=True)
        patch.undo()


def queue() -> list[str]:
    done = subprocess.run(
        ["squeue", "-h", "-o", "%j"], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_warm_start_ships_from_slurm(on_slurm: Lab) -> None:
    code, run_id, printed = on_slurm.watch(
        "act-of-god/warm-start", warm_start(label="slurm", where=ON_SLURM, gates=LENIENT)
    )
    assert code == 0, printed
    for name in ("train-god_run", "audit-panel"):
        entry, _ = on_slurm.job(run_id, name)
        assert entry.executor == "slurm"
    assert (on_slurm.artifacts / "registry" / "production.json").exists()
    assert queue() == []


def test_folds_are_one_array(on_slurm: Lab) -> None:
    plan = {"label": "array", "folds": [1, 3], "where": ON_SLURM, "training": tiny()}
    code, run_id, printed = on_slurm.watch("cross-validation/five-fold", plan)
    assert code == 0, printed
    tokens = {on_slurm.job(run_id, f"train-fold_0{fold}")[0].attempt.token for fold in (1, 3)}
    assert len(tokens) == 1  # one submission for both


def test_a_cancel_in_the_ui_empties_the_queue(on_slurm: Lab) -> None:
    endless = tiny(epochs=100_000, early_stop_patience=100_000, lr=3e-6)
    run_id = on_slurm.start(
        "act-of-god/warm-start", warm_start(label="cancelled", training=endless, where=ON_SLURM, gates=LENIENT)
    )
    on_slurm.job_started(run_id, "train-god_run")
    assert queue()
    on_slurm.api("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    until("an empty queue", lambda: not queue(), EMPTY_S)
    assert on_slurm.ended(run_id, EMPTY_S)["name"] == "Cancelled"
