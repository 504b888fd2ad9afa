"""The five-fold campaign on one or two folds: the seed's files, nothing repeated, one failed fold stops no other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flow_lab import LENIENT, Lab, starts, tiny, until

from tasks.audit_log import verify
from tasks.slurm.journal import Journal

pytestmark = pytest.mark.prefect

SUMMARY = "artifacts/cross_validation/fold_summary.csv"


def campaign(label: str, folds: list[int], **plan: Any) -> dict[str, Any]:
    return {"label": label, "folds": folds, "training": tiny(lr=6e-6), **plan}


@pytest.fixture(scope="module")
def one_fold(lab: Lab) -> str:
    """A campaign of fold 2 alone."""
    code, run_id, printed = lab.watch("cross-validation/five-fold", campaign("one", [2]))
    assert code == 0, printed
    return run_id


@pytest.fixture(scope="module")
def two_folds(lab: Lab, one_fold: str) -> str:
    """The same campaign with fold 1 as well."""
    run_id = lab.start("cross-validation/five-fold", campaign("two", [1, 2]))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    return run_id


def _jobs_of(lab: Lab, run_id: str, what: str) -> list[str]:
    """Names of the jobs that a run submitted, or reused."""
    return sorted(event["data"]["job"] for event in lab.events(run_id, f"job-{what}"))


def test_a_fold_leaves_the_files_of_the_runbook(lab: Lab, one_fold: str) -> None:
    root = lab.artifacts
    for name in ("train", "val", "test"):
        manifest = pd.read_csv(root / f"manifests/fold_02/{name}_manifest.csv")
        outputs = list((root / f"denoised/folds/fold_02/{name}").rglob("*"))
        assert len(manifest) > 0
        assert outputs
    checkpoint = root / "checkpoints/Track_H_fold_02/mamba_tiny_uv_best.pt"
    for path in (
        checkpoint,
        root / "checkpoints/prod/Track_H_fold_02/mamba_tiny_uv_best.pt",
        root / "logs/Track_H_fold_02/train.log",
        root / "logs/Track_H_fold_02/metrics.csv",
        root / "artifacts/cross_validation/fold_02_speed.json",
        root / "artifacts/cross_validation/review.csv",
        root / "final_analytics/reviewing_the_5fold_run.md",
    ):
        assert path.exists(), path
    assert list((root / "logs/Track_H_fold_02").rglob("events.out.tfevents.*"))
    (epoch,) = json.loads((root / "artifacts/cross_validation/fold_02_speed.json").read_text())["epochs"]
    assert epoch["samples_per_s"] > 0
    assert epoch["peak_memory_mb"] > 0
    assert "gpu_utilisation_pct" in epoch
    log = (root / "logs/Track_H_fold_02/train.log").read_text()  # the full command, then a line an epoch
    assert log.index(" command ") < log.index("epoch 0/1") < log.index("epoch 1/1")
    row = pd.read_csv(root / SUMMARY).set_index("fold").loc[2]
    assert row["status"] == "done"
    assert row["checkpoint"] == "checkpoints/Track_H_fold_02/mamba_tiny_uv_best.pt"
    assert row["audit_log"] == "logs/Track_H_fold_02/auditing_manifest.log"
    assert row["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_a_folds_audit_log_tells_its_whole_story(lab: Lab, one_fold: str) -> None:
    lines = (lab.artifacts / "logs/Track_H_fold_02/auditing_manifest.log").read_text().splitlines()
    told = [line.split(" | ", 1)[1] for line in lines]
    story = (
        "Starting fold_02",
        "Generating manifests",
        "Generated manifests: manifests/fold_02/train_manifest.csv, manifests/fold_02/val_manifest.csv, "
        "manifests/fold_02/test_manifest.csv",
        "Verified counts: train=720, val=240, test=240",
        "Launching training run",
        "Training completed successfully",
        "Checkpoint ready: checkpoints/Track_H_fold_02/mamba_tiny_uv_best.pt",
        "Starting inference for train -> denoised/folds/fold_02/train",
        "Starting inference for val -> denoised/folds/fold_02/val",
        "Starting inference for test -> denoised/folds/fold_02/test",
        "Fold completed",
    )
    assert [line for line in told if line in story] == list(story), lines  # word for word, once, in this order
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \| ", line) for line in lines)
    assert verify(lab.folder(one_fold) / "audit.jsonl") == []


def test_a_campaign_is_reviewed_beside_the_controls(lab: Lab, two_folds: str) -> None:
    review = pd.read_csv(lab.artifacts / "artifacts/cross_validation/review.csv")
    assert {"model", "raw", "savgol_61_3", "lmmse", "f"} == set(review["method"])
    for figure in ("psnr_mean", "sam_mean", "area_within_10_pct_ratio", "centroid_mae_nm_median", "depth_mae_median"):
        own = review[review["method"] == "model"].set_index("split")
        assert own.loc[["val", "test"], [figure, f"{figure}_sd"]].notna().all(axis=None), figure
    page = next(lab.folder(two_folds).glob("*.html")).read_text()
    assert page.count("data:image/png") >= 4  # boxes, training curves, worst captures, their spectra
    text = (lab.artifacts / "final_analytics/reviewing_the_5fold_run.md").read_text()
    for told in ("±", "Training", "Worst captures", "No fold ships"):
        assert told in text
    assert {"cross-validation-report", "cross-validation-review", "cross-validation-jobs"} <= set(
        lab.artifacts_of(two_folds)
    )


def test_a_second_campaign_trains_only_the_fold_that_is_missing(lab: Lab, two_folds: str) -> None:
    assert _jobs_of(lab, two_folds, "submitted") == ["denoise-fold_01", "evaluate-fold_01", "train-fold_01"]
    assert _jobs_of(lab, two_folds, "reused") == ["denoise-fold_02", "evaluate-fold_02", "train-fold_02"]
    summary = pd.read_csv(lab.artifacts / SUMMARY)
    assert list(summary["fold"]) == [1, 2]
    assert list(summary["status"]) == ["done", "done"]
    review = pd.read_csv(lab.artifacts / "artifacts/cross_validation/review.csv")
    assert set(review["folds"]) == {2}
    assert {"val", "test"} == set(review["split"])


def test_a_third_campaign_repeats_nothing(lab: Lab, two_folds: str) -> None:
    before, summary = lab.job_keys(), (lab.artifacts / SUMMARY).read_bytes()
    audit_log = lab.artifacts / "logs/Track_H_fold_02/auditing_manifest.log"
    told = audit_log.read_text().splitlines()
    run_id = lab.start("cross-validation/five-fold", campaign("three", [1, 2]))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    assert _jobs_of(lab, run_id, "submitted") == []
    assert lab.job_keys() == before
    assert (lab.artifacts / SUMMARY).read_bytes() == summary
    added = [line for line in audit_log.read_text().splitlines() if line not in told]
    assert any("Skipping training" in line for line in added)
    assert not any("Starting inference" in line or "Launching" in line for line in added)


def test_half_a_checkpoint_is_never_taken_for_a_whole_one(lab: Lab, two_folds: str) -> None:
    """Only the fold whose file was cut is trained again, and ends in the same weights."""
    path = lab.artifacts / "checkpoints/Track_H_fold_02/mamba_tiny_uv_best.pt"
    whole = _cut(path)
    run_id = lab.start("cross-validation/five-fold", campaign("cut", [1, 2]))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    assert _jobs_of(lab, run_id, "damaged") == ["train-fold_02"]
    assert "train-fold_02" in _jobs_of(lab, run_id, "submitted")
    assert "train-fold_01" in _jobs_of(lab, run_id, "reused")
    assert path.read_bytes() == whole


OPTIONS: dict[str, Any] = {
    "batch_size": 6, "grad_accum": 2, "epochs": 5, "patience": 1, "lr": 1e-7, "lr_min": 1e-8,
    "inference_batch_size": 37, "layout": "files", "where": {"device": "cpu"},
}  # fmt: skip


@pytest.fixture(scope="module")
def parametrised(lab: Lab) -> tuple[str, Path]:
    """A campaign with every option of the runbook changed, and where its outputs went."""
    output_root = "elsewhere/options"
    run_id = lab.start("cross-validation/five-fold", campaign("options", [4], output_root=output_root, **OPTIONS))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    return run_id, lab.artifacts / output_root


def test_every_option_of_the_runbook_takes_effect(lab: Lab, parametrised: tuple[str, Path]) -> None:
    run_id, root = parametrised
    entry, _ = lab.job(run_id, "train-fold_04")
    optimiser = entry.spec["places"]["request"]["plan"]["optimiser"]
    given = {"bs": 6, "grad_accum": 2, "epochs": 5, "early_stop_patience": 1, "lr": 1e-7, "lr_min": 1e-8}
    assert {name: optimiser[name] for name in given} == given
    metrics = pd.read_csv(root / "logs/Track_H_fold_04/metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1]  # patience of one epoch
    assert metrics["lr"].max() <= 1e-7
    audit_log = (root / "logs/Track_H_fold_04/auditing_manifest.log").read_text()
    assert " on cpu " in audit_log
    assert "Ended after 1 epochs: early stop" in audit_log
    denoising, _ = lab.job(run_id, "denoise-fold_04")
    decided = denoising.spec["arguments"]["identity"]
    assert (decided["batch_size"], decided["layout"]) == (37, "files")
    assert set(decided) == {"batch_size", "layout", "corpus", "manifests", "checkpoint"}  # what, never where
    for split in ("train", "val", "test"):
        paths = set(pd.read_csv(root / f"manifests/fold_04/{split}_manifest.csv")["relative_path"])
        folder = root / f"denoised/folds/fold_04/{split}"
        written = {str(path.relative_to(folder)) for path in folder.rglob("*_denoised.npy")}
        assert written == {path.replace(".npy", "_denoised.npy") for path in paths}
    assert (root / SUMMARY).exists()


def test_without_skip_existing_a_fold_is_trained_again(lab: Lab, parametrised: tuple[str, Path]) -> None:
    root = str(parametrised[1].relative_to(lab.artifacts))
    again = campaign("again", [4], skip_existing=False, output_root=root, **OPTIONS)
    run_id = lab.start("cross-validation/five-fold", again)
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    assert _jobs_of(lab, run_id, "submitted") == ["denoise-fold_04", "evaluate-fold_04", "train-fold_04"]
    assert _jobs_of(lab, run_id, "reused") == []


@pytest.fixture(scope="module")
def without_a_spectrum(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the corpus that lacks one capture of a group outside the panel, and that capture's name."""
    corpus = tmp_path_factory.mktemp("torn") / "corpus"
    shutil.copytree(lab.corpus, corpus)
    panel = set(pd.read_csv(corpus / "validation_panel.csv")["relative_path"])
    files = sorted((corpus / "spectra_for_fold").rglob("rep_*.npy"))
    lost = next(path for path in files if str(path.relative_to(corpus / "spectra_for_fold")) not in panel)
    lost.unlink()
    return corpus, str(lost.relative_to(corpus / "spectra_for_fold"))


def test_a_missing_spectrum_fails_before_anything_is_submitted(lab: Lab, without_a_spectrum: tuple[Path, str]) -> None:
    corpus, lost = without_a_spectrum
    before = lab.job_keys()
    run_id = lab.start("cross-validation/five-fold", campaign("torn", [1], corpus=str(corpus)))
    state = lab.ended(run_id)
    assert (state["type"], state["name"]) == ("FAILED", "BadInput")
    assert lost in state["message"] or Path(lost).name in state["message"]
    assert lab.job_keys() == before
    assert "Traceback" not in lab.log(run_id)


@pytest.fixture(scope="module")
def ruined(lab: Lab, two_folds: str) -> str:
    """A campaign of four folds, of which one comes through.

    While the first trains, the second one's rate in the journal becomes absurd. The third one's process is killed at
    every start, until no remedy is left; the fourth one's checkpoint is cut after its training, before its denoising
    reads it.
    """
    plan = campaign("ruined", [1, 2, 3, 4], training=tiny(lr=1e-4, epochs=3))
    run_id = lab.start("cross-validation/five-fold", plan)
    lab.job_started(run_id, "train-fold_01")
    journal = Journal(lab.artifacts / "jobs")
    with journal.lock():
        (entry,) = [one for one, _ in lab.jobs("train-fold_02") if one.owner == run_id]
        assert not starts(journal.folder(entry.key))
        entry.spec["places"]["request"]["plan"]["optimiser"].update(lr=1e30, lr_min=1e30)
        journal.write(entry)
    folders = {entry.spec["name"]: folder for entry, folder in lab.jobs("train-fold_") if entry.owner == run_id}
    third, fourth = folders["train-fold_03"], folders["train-fold_04"]
    killed: set[int] = set()
    cut = False

    def over() -> bool:
        nonlocal cut
        for start in starts(third):
            if start["pid"] not in killed:
                killed.add(start["pid"])
                os.kill(start["pid"], signal.SIGKILL)
        if not cut and [one for one, _ in lab.jobs("denoise-fold_04") if one.owner == run_id]:
            _cut(fourth / "work/checkpoints/Track_H_fold_04/mamba_tiny_uv_best.pt")
            cut = True
        return cut and json.loads((third / "journal.json").read_text())["state"] != "live"

    until("the last remedy of fold 3 and the denoising of fold 4", over, pause=0.02)
    assert len(killed) == 3  # the first attempt and two remedies
    assert lab.ended(run_id)["type"] == "FAILED", lab.log(run_id)
    return run_id


def _cut(path: Path) -> bytes:
    """Leave half of a checkpoint; what it held."""
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def _rows(lab: Lab, run_id: str) -> dict[int, dict[str, Any]]:
    """A campaign's summary as its artifact shows it, by fold."""
    rows = json.loads(lab.artifacts_of(run_id)["cross-validation-fold-summary"]["data"])
    return {row["fold"]: row for row in rows}


def test_lost_folds_cost_nobody_else(lab: Lab, ruined: str) -> None:
    state = lab.ended(ruined)
    assert state["name"] == "FoldFailed"
    for hidden in ("Traceback", "fold_01"):
        assert hidden not in state["message"]
    statuses = {fold: row["status"] for fold, row in _rows(lab, ruined).items()}
    assert statuses == {1: "done", 2: "failed", 3: "failed", 4: "failed"}


def test_a_fold_that_dies_for_good_leaves_a_table(lab: Lab, ruined: str) -> None:
    assert "Track_H_fold_03" in lab.ended(ruined)["message"]
    assert "killed" in _rows(lab, ruined)[3]["reason"]


def test_a_checkpoint_that_cannot_be_read_costs_its_fold_alone(lab: Lab, ruined: str) -> None:
    """Run again, that fold is trained anew (above)."""
    reason = _rows(lab, ruined)[4]["reason"]
    for told in ("denoise-fold_04", "mamba_tiny_uv_best.pt"):
        assert told in reason


def test_a_loss_that_is_not_a_number_is_remedied_once_and_then_costs_its_fold_alone(lab: Lab, ruined: str) -> None:
    for told in ("Track_H_fold_02", "nan_loss", "the loss became NaN or infinite"):
        assert told in lab.ended(ruined)["message"]
    entry, _ = lab.job(ruined, "train-fold_02")
    assert [attempt.adjustments["lr_factor"] for attempt in entry.attempts] == [1.0, 0.5]
    assert entry.attempts[1].adjustments["grad_clip"] == 1.0
    remedies = [event["data"] for event in lab.events(ruined, "job-remedy")]
    assert [one["cause"] for one in remedies if one["job"] == "train-fold_02"] == ["nan_loss"]
    assert {one["job"] for one in remedies} == {"train-fold_02", "train-fold_03"}
    logs = lab.artifacts / "logs/Track_H_fold_02"  # where the runbook sends a reader after a failure
    assert "Fold failed" in (logs / "auditing_manifest.log").read_text()
    assert "NonFiniteLoss" in (logs / "train.log").read_text()


def test_a_fold_that_failed_is_trained_when_its_cause_is_gone(lab: Lab, ruined: str) -> None:
    """Asked for alone, as the runbook does; the summary keeps the fold that was done before."""
    plan = campaign("mended", [2], training=tiny(lr=1e-4, epochs=3), skip_existing=False)
    run_id = lab.start("cross-validation/five-fold", plan)
    state = lab.ended(run_id)
    assert state["type"] == "COMPLETED", lab.log(run_id)
    assert "1 fold trained" in state["message"]
    assert "1 fold finished before" in state["message"]
    assert _jobs_of(lab, run_id, "submitted") == ["denoise-fold_02", "evaluate-fold_02", "train-fold_02"]
    assert _jobs_of(lab, run_id, "reused") == []
    summary = pd.read_csv(lab.artifacts / SUMMARY)
    assert list(summary["fold"]) == [1, 2]
    assert list(summary["status"]) == ["done", "done"]
    assert set(pd.read_csv(lab.artifacts / "artifacts/cross_validation/review.csv")["folds"]) == {2}


def test_a_fold_of_another_plan_is_not_summed_up(lab: Lab, ruined: str) -> None:
    """Fold 1 was done under this plan once; what stands in its place is another campaign's."""
    run_id = lab.start("cross-validation/five-fold", campaign("older", [2]))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    assert _jobs_of(lab, run_id, "submitted") == []
    assert list(pd.read_csv(lab.artifacts / SUMMARY)["fold"]) == [2]


def test_what_a_campaign_made_can_be_audited(lab: Lab, two_folds: str) -> None:
    folders = [str(lab.artifacts / f"checkpoints/prod/Track_H_fold_0{fold}") for fold in (1, 2)]
    plan = {"label": "folds", "checkpoints": folders, "gates": {"psnr_mean_min": 999}}
    code, run_id, printed = lab.watch("panel-qa/audit", plan)
    assert code == 1, printed
    assert lab.state(run_id) == "GateFailed"
    assert lab.children(run_id) == []  # judges, starts nothing
    summary = json.loads((lab.folder(run_id) / "final_analytics/panel_eval/panel_eval_summary.json").read_text())
    assert {"raw", "savgol_61_3"} <= set(summary["controls"])
    assert len(summary["ranked_order"]) == 2  # the best checkpoint of each fold
    assert "panel-qa-gates" in lab.artifacts_of(run_id)

    before, (_, measured) = lab.job_keys(), lab.job(run_id, "audit-panel")
    started = starts(measured)
    code, again, printed = lab.watch("panel-qa/audit", {**plan, "gates": LENIENT})
    assert lab.job_keys() == before  # another threshold: the same numbers judged again, no job
    assert starts(measured) == started
    assert _jobs_of(lab, again, "reused") == ["audit-panel"]
    old, new = (json.loads((lab.folder(run) / "verdict.json").read_text())["gates"] for run in (run_id, again))
    failed = [{row["metric"] for row in rows if not row["passed"]} for rows in (old, new)]
    assert "psnr_mean" in failed[0] - failed[1]
    assert [row["value"] for row in old] == [row["value"] for row in new]


def test_a_checkpoint_denoises_a_whole_manifest(lab: Lab, two_folds: str) -> None:
    checkpoint = lab.artifacts / "checkpoints/prod/Track_H_fold_02/mamba_tiny_uv_best.pt"
    plan = {"label": "panel", "checkpoint": str(checkpoint), "manifest": "validation_panel"}
    run_id = lab.start("denoise/manifest", plan)
    state = lab.ended(run_id)
    assert state["type"] == "COMPLETED", lab.log(run_id)
    rows = len(pd.read_csv(lab.corpus / "validation_panel.csv"))
    assert str(rows) in state["message"]
    (output,) = json.loads(lab.artifacts_of(run_id)["denoise-outputs"]["data"])
    assert output["spectra"] == rows
    assert any(Path(output["folder"]).iterdir())
