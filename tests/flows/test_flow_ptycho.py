"""The dose and overlap study as a flow: what a run leaves, nothing repeated, one lost job costs its cell alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flow_lab import ROOT, Lab, starts

from ptycho_core.layout import Layout
from study_core.files import replacing
from tasks.bundle import verify

pytestmark = pytest.mark.prefect

STUDY = "ptycho/study"


def study(label: str, iterations: int = 2, **plan: Any) -> dict[str, Any]:
    """The smoke study at one dose, trained for a moment; nobody has set floors for it, so it is refused."""
    options = {"size": "smoke", "doses": [1e4], "training": {"iterations": iterations}, "iterative": {"epochs": 1}}
    return {"label": label, **options, **plan}


def hub_of(lab: Lab, run_id: str) -> Layout:
    (event,) = lab.events(run_id, "design")
    return Layout(Path(event["text"].rpartition(" in ")[2]))


def submitted(lab: Lab, run_id: str) -> list[str]:
    return sorted(event["data"]["job"] for event in lab.events(run_id, "job-submitted"))


@pytest.fixture(scope="module")
def first(lab: Lab) -> str:
    code, run_id, printed = lab.watch(STUDY, study("first"))
    assert code == 1, printed
    return run_id


JOBS = [
    "compare-10000", "compare-10000-dense", "compare-10000-sparse", "generate-dose_10000",
    "train-10000-baseline-gs1", "train-10000-baseline-gs1-supervised", "train-10000-dense-gs2",
    "train-10000-sparse-gs2",
]  # fmt: skip


def test_a_run_is_judged_in_every_cell(lab: Lab, first: str) -> None:
    state = lab.ended(first)
    assert (state["type"], state["name"]) == ("FAILED", "GateFailed")
    assert "10000/dense" in state["message"]
    assert "10000/sparse" in state["message"]
    names = submitted(lab, first)
    assert [name for name in names if name.startswith(("generate", "train"))] == [
        name for name in JOBS if name.startswith(("generate", "train"))
    ]
    assert len([name for name in names if name.startswith("compare")]) == 3
    layout = hub_of(lab, first)
    manifest = json.loads(layout.training_manifest.read_text())
    assert [job["result"]["status"] for job in manifest["jobs"]] == ["success"] * 4
    compared = json.loads(layout.comparison_manifest.read_text())
    assert (compared["n_success"], compared["n_failed"]) == (3, 0)


def test_a_run_leaves_page_records_and_bundle(lab: Lab, first: str) -> None:
    folder = lab.folder(first)
    for name in ("report.html", "hub/summary.md", "hub/verdict.json", "hub/training_manifest.json",
                 "hub/compare/dose_10000/dense/metrics.json", "hub/dose_10000/dense/spacing_test.json"):  # fmt: skip
        assert (folder / name).exists(), name
    assert {"ptycho-report", "ptycho-matrix", "ptycho-gates", "ptycho-views"} <= set(lab.artifacts_of(first))
    bundle = folder / "auditors_bundle.zip"
    assert verify(bundle) == []
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
    assert "REPLAY.md" in names
    assert not [name for name in names if name.endswith(("train.npz", "test.npz", "bundle.zip"))]


def test_the_bundle_alone_replays_equal(lab: Lab, first: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(lab.folder(first) / "auditors_bundle.zip") as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-m", "ptycho_core", "replay", "--hub", str(tmp_path / "hub")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("equal: ")


def test_a_second_run_under_other_gates_repeats_nothing(lab: Lab, first: str) -> None:
    before = lab.job_keys()
    lenient = {
        "over_flat_min": -9, "over_rolled_min": -9, "over_lsqml_min": -9, "grouping_min": -9, "patch_ratio_min": 0,
        "cells": {"10000/dense": {"deviance_ratio_max": 99, "ph_ms_ssim_min": -1},
                  "10000/sparse": {"deviance_ratio_max": 99, "ph_ms_ssim_min": -1}},
    }  # fmt: skip
    run_id = lab.start(STUDY, study("lenient", gates=lenient))
    state = lab.ended(run_id)
    assert submitted(lab, run_id) == []
    assert lab.job_keys() == before
    assert hub_of(lab, run_id) == hub_of(lab, first)
    verdict = json.loads((lab.folder(run_id) / "hub" / "verdict.json").read_text())
    refused = {gate["gate"] for gate in verdict["gates"] if not gate["passed"]}
    assert "quality" not in refused
    assert "chance" not in refused
    assert state["type"] == ("FAILED" if refused else "COMPLETED"), state


def test_a_lost_training_costs_its_cell_alone(lab: Lab, first: str) -> None:
    """The sparse patterns are spoilt while another training runs: that job is lost, every other cell is reported."""
    run_id = lab.start(STUDY, study("lost", iterations=3))
    _, folder = lab.job_started(run_id, "train-10000-baseline-gs1")
    assert starts(folder)
    layout = hub_of(lab, run_id)
    target = layout.dataset(1e4, "sparse", "train")
    whole = target.read_bytes()
    with replacing(target) as temporary:
        temporary.write_bytes(whole[:1000])
    state = lab.ended(run_id)
    assert state["name"] == "GateFailed", state
    assert "10000/sparse" in state["message"]
    jobs = {job["view"]: job["result"] for job in json.loads(layout.training_manifest.read_text())["jobs"]
            if job["arm"] == "pinn"}  # fmt: skip
    assert {view: result["status"] for view, result in jobs.items()} == {
        "baseline": "success", "dense": "success", "sparse": "failed",
    }  # fmt: skip
    assert "sha256" in jobs["sparse"]["error"]
    cells = {job["view"]: job for job in json.loads(layout.comparison_manifest.read_text())["jobs"]}
    assert {cell["status"] for cell in cells.values()} == {"success"}
    (arm,) = [arm for arm in cells["sparse"]["arms"] if arm["arm"] == "PtychoPINN"]
    assert arm["status"] == "missing"
    assert "sha256" in arm["reason"]
    (lost,) = lab.events(run_id, "cell")
    assert "train-10000-sparse-gs2" in lost["text"]

    again = lab.start(STUDY, study("lost again", iterations=3))
    assert lab.ended(again)["name"] == "GateFailed"
    assert "train-10000-dense-gs2" not in submitted(lab, again)
    assert "train-10000-sparse-gs2" in submitted(lab, again)
    results = [job["result"]["status"] for job in json.loads(layout.training_manifest.read_text())["jobs"]]
    assert set(results) == {"success"}


def test_bad_input_is_a_line_before_anything_is_sent(lab: Lab) -> None:
    """Other kinds: tests/tasks/test_ptycho_steps.py."""
    before = lab.job_keys()
    run_id = lab.start(STUDY, study("bad", doses=[1000.0, 1000.5]))
    state = lab.ended(run_id)
    assert state["name"] == "BadInput"
    assert "unique as whole photons" in state["message"]
    assert lab.job_keys() == before
