"""The flows on a real Slurm: the warm start end to end, folds as one array, a cancel that leaves the queue empty."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flow_lab import CANARY, LENIENT, ROOT, Lab, house, starts, tiny, until, warm_start

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
    assert (on_slurm.artifacts / "registry" / "denoise" / "production.json").exists()
    assert queue() == []
    _is_accounted_for(on_slurm, run_id, {"train-fold_02", "train-god_run", "audit-panel"})
    numbers = pd.read_csv(on_slurm.folder(run_id) / "jobs.csv", dtype=str).set_index("job")["slurm_ids"]
    assert {f"{name} · slurm {numbers[name]}" for name in ("train-god_run", "audit-panel")} <= _task_names(
        on_slurm, run_id
    )
    shown = on_slurm.artifacts_of(run_id)["act-of-god-progress-train-god-run"]["description"]
    for said in ("state done", "node g", "slurm_id ", "epoch 1, epochs 1", "elapsed_s "):
        assert said in shown, shown
    for path in (path for path in on_slurm.artifacts.rglob("*") if path.is_file()):
        assert CANARY.encode() not in path.read_bytes(), path


def _task_names(lab: Lab, run_id: str) -> set[str]:
    found = lab.api("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return {task["name"] for task in found}


def _is_accounted_for(lab: Lab, run_id: str, names: set[str]) -> None:
    """Every job has its row in `jobs.csv` and in its picture: node, times, CPU and memory efficiency."""
    rows = pd.read_csv(lab.folder(run_id) / "jobs.csv").set_index("job")
    assert set(rows.index) == names
    assert set(rows["nodes"]) <= {"g1", "g2"}
    for column in ("elapsed_s", "queue_wait_s", "cpu_efficiency", "memory_efficiency", "memory_peak_mb", "slurm_ids"):
        assert rows[column].notna().all(), column
    assert (rows.loc[[name for name in names if name.startswith("train")], "gpus"] == 1).all()
    (picture,) = [row for key, row in lab.artifacts_of(run_id).items() if key.endswith("-jobs")]
    assert {row["job"] for row in json.loads(picture["data"])} == names


def test_folds_are_one_array(on_slurm: Lab) -> None:
    plan = {"label": "array", "folds": [1, 3], "where": ON_SLURM, "training": tiny()}
    code, run_id, printed = on_slurm.watch("cross-validation/five-fold", plan)
    assert code == 0, printed
    tokens = {on_slurm.job(run_id, f"train-fold_0{fold}")[0].attempt.token for fold in (1, 3)}
    assert len(tokens) == 1  # one submission for both
    stages = ("train", "denoise", "evaluate")
    _is_accounted_for(on_slurm, run_id, {f"{stage}-fold_0{fold}" for stage in stages for fold in (1, 3)})


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


def _endless(label: str, lr: float, **where: Any) -> dict[str, Any]:
    training = tiny(epochs=100_000, early_stop_patience=100_000, lr=lr)
    return warm_start(label=label, training=training, where={**ON_SLURM, **where}, gates=LENIENT)


def test_killing_the_flows_process_empties_the_queue(on_slurm: Lab) -> None:
    run_id = on_slurm.start("act-of-god/warm-start", _endless("killed", 4e-6))
    on_slurm.job_started(run_id, "train-god_run")
    assert queue()
    on_slurm.kill_flow(run_id)
    until("an empty queue", lambda: not queue(), EMPTY_S)
    assert on_slurm.ended(run_id, EMPTY_S)["name"] == "Crashed"
    until("the end in the journal", lambda: on_slurm.job(run_id, "train-god_run")[0].state == "cancelled", EMPTY_S)


def test_a_detached_job_stays_in_the_queue_and_is_joined_again(on_slurm: Lab) -> None:
    dead = on_slurm.start("act-of-god/warm-start", _endless("detached", 5e-6, detach=True))
    entry, folder = on_slurm.job_started(dead, "train-god_run")
    on_slurm.kill_flow(dead)
    assert on_slurm.ended(dead, EMPTY_S)["name"] == "Crashed"
    run_id = on_slurm.start("act-of-god/warm-start", _endless("joined", 5e-6))
    until("the job in new hands", lambda: on_slurm.job(dead, "train-god_run")[0].owner == run_id)
    assert queue() == [entry.attempt.token]
    assert len(starts(folder)) == 1
    on_slurm.cancel(run_id)
    until("an empty queue", lambda: not queue(), EMPTY_S)
