"""The flows on a real Slurm: the warm start end to end, folds as one array, a cancel that leaves the queue empty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flow_lab import (
    CANARY,
    LENIENT,
    ROOT,
    SIGNED,
    Lab,
    house,
    processes_below,
    small_concept,
    starts,
    tiny,
    until,
    warm_start,
)

from ptycho_core.layout import Layout
from study_core.files import replacing

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
        "act-of-god/warm-start", warm_start(label="slurm", where=ON_SLURM, gates=LENIENT, approval=SIGNED)
    )
    assert code == 0, printed
    for name in ("train-god_run", "audit-panel"):
        entry, _ = on_slurm.job(run_id, name)
        assert entry.executor == "slurm"
    assert on_slurm.pointer().exists()
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


def test_a_detached_job_stays_in_the_queue_is_joined_again_and_goes_with_a_cancel(on_slurm: Lab) -> None:
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
    assert on_slurm.ended(run_id, EMPTY_S)["name"] == "Cancelled"


STUDY = "ptycho/study"
WAVE = [f"{stage}-{dose}-{view}" for dose in (1000, 100000) for stage, view in (
    ("train", "baseline-gs1"), ("train", "dense-gs2"), ("train", "sparse-gs2"), ("lsqml", "baseline"),
    ("lsqml", "dense"), ("lsqml", "sparse"),
)]  # fmt: skip


def _study(label: str) -> dict[str, Any]:
    """Two doses, two views and all positions: six networks and six reconstructions, of a moment each."""
    return {
        "label": label, "size": "smoke", "doses": [1e3, 1e5], "training": {"iterations": 2, "supervised": False},
        "iterative": {"epochs": 1}, "where": ON_SLURM,
    }  # fmt: skip


def _wave(lab: Lab) -> dict[str, Any]:
    return {entry.spec["name"]: entry for stage in ("train-1", "lsqml-1") for entry, _ in lab.jobs(stage)}


def test_a_study_of_two_arrays_outlives_a_killed_flow_a_killed_job_and_a_lost_cell(on_slurm: Lab) -> None:
    first = on_slurm.start(STUDY, _study("first"))
    until("both arrays", lambda: len(_wave(on_slurm)) == 12 and all(e.attempt.token for e in _wave(on_slurm).values()))
    assert sorted(_wave(on_slurm)) == sorted(WAVE)
    tokens = {name: entry.attempts[0].token for name, entry in _wave(on_slurm).items()}
    assert len(set(tokens.values())) == 2
    until("three results", lambda: len(_done(on_slurm)) >= 3)
    on_slurm.kill_flow(first)
    until("an empty queue", lambda: not queue(), EMPTY_S)
    assert on_slurm.ended(first, EMPTY_S)["name"] == "Crashed"
    done = _done(on_slurm)
    assert 3 <= len(done) < 12

    again = on_slurm.start(STUDY, _study("again"))
    left = [name for name in WAVE if name not in done and name.startswith("train")]
    os.kill(until(f"{left[0]} at work", lambda: _at_work(on_slurm, left[0], again), pause=0.05), signal.SIGKILL)
    (design,) = on_slurm.events(again, "design")
    layout = Layout(Path(design["text"].rpartition(" in ")[2]))
    spoilt = layout.dataset(1e5, "sparse", "train")
    whole = spoilt.read_bytes()
    with replacing(spoilt) as temporary:
        temporary.write_bytes(whole[:1000])
    state = on_slurm.ended(again)
    assert (state["type"], state["name"]) == ("FAILED", "GateFailed"), state

    sent = {event["data"]["job"] for event in on_slurm.events(again, "job-submitted")}
    assert not sent & done
    assert not [name for name in sent if name.startswith("generate")]
    remedies = {event["data"]["job"]: event["data"]["cause"] for event in on_slurm.events(again, "job-remedy")}
    assert remedies == {left[0]: "killed"}
    results = {
        job["artifact_dir"]: job["result"]["status"] for job in json.loads(layout.training_manifest.read_text())["jobs"]
    }
    assert [name for name, status in results.items() if status != "success"] == ["train/dose_100000/sparse_gs2"]
    assert len(results) == 6
    solved = json.loads(layout.reconstruction_manifest.read_text())["jobs"]
    assert [job["status"] for job in solved] == ["success"] * 6
    cells = json.loads(layout.comparison_manifest.read_text())
    assert (cells["n_success"], cells["n_failed"]) == (6, 0)
    empty = [(cell["dose"], cell["view"], arm["arm"]) for cell in cells["jobs"] for arm in cell["arms"]
             if arm["status"] == "missing" and arm["arm"] == "PtychoPINN" and cell["view"] != "baseline"]  # fmt: skip
    assert empty == [(1e5, "sparse", "PtychoPINN")]


def _at_work(lab: Lab, name: str, owner: str) -> int | None:
    """Process of a job's newest attempt on its node."""
    ((entry, folder),) = lab.jobs(name)
    begun = [start for start in starts(folder) if start["attempt"] == entry.attempt.number]
    return int(begun[-1]["pid"]) if entry.owner == owner and entry.state == "live" and begun else None


def _done(lab: Lab) -> set[str]:
    return {name for name, entry in _wave(lab).items() if entry.state == "done"}


def test_layers_of_a_concept_are_one_array_and_nothing_is_embedded_twice(on_slurm: Lab, tmp_path: Path) -> None:
    """The flow is killed while the layers are trained, started again, and one of its layers killed on its node."""
    pytest.importorskip("transformers")
    plan = {**small_concept(tmp_path / "concept", cav={"null_refits": 400}), "where": ON_SLURM}
    dead = on_slurm.start("concept/probe", {**plan, "label": "dead"})
    on_slurm.job_started(dead, "cav-house_esm2-L4")
    on_slurm.kill_flow(dead)
    until("an empty queue", lambda: not queue(), EMPTY_S)
    run_id = on_slurm.start("concept/probe", {**plan, "label": "again"})
    _, folder = until("the layer at work", lambda: _again(on_slurm, run_id, "cav-house_esm2-L4"))
    tokens = {on_slurm.job(run_id, f"cav-house_esm2-L{layer}")[0].attempt.token for layer in (0, 4)}
    assert len(tokens) == 1  # one submission for both
    victims = until("its process", lambda: processes_below(folder))
    for process in victims:
        process.kill()
    state = on_slurm.ended(run_id)
    assert state["name"] in ("GateFailed", "Completed"), on_slurm.log(run_id)
    assert len(starts(folder)) >= 3, "begun by the dead flow, again by this one, and after the kill"
    entry, embedded = on_slurm.job(run_id, "embed-house_esm2")
    assert entry.owner == dead
    assert len(starts(embedded)) == 1
    assert queue() == []


def _again(lab: Lab, run_id: str, name: str) -> tuple[Any, Path] | None:
    """A job at work in the hands of a run that took it over."""
    for entry, folder in lab.jobs(name):
        if entry.owner == run_id and entry.state == "live" and len(starts(folder)) >= 2:
            return entry, folder
    return None
