"""From trained networks to the page: the commands compare, summary and replay on a small study that really ran."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.__main__ import main
from ptycho_core.design import StudyDesign, get_study_design
from ptycho_core.evaluation.thresholds import CellFloor, StudyThresholds
from ptycho_core.layout import Layout, claim_hub
from ptycho_core.npz import read_arrays, write_arrays
from ptycho_core.replay import replay_hub
from ptycho_core.report.record import read_study
from ptycho_core.report.statements import findings
from ptycho_core.summary import write_summary
from study_core.errors import BadInput
from study_core.files import read_json, sha256_of, write_json
from tasks import signing
from tasks.bundle import verify
from tasks.cli import main as gated
from tasks.ptycho import show, steps
from tasks.ptycho.parameters import DoseOverlapPlan
from tasks.run import open_run

LENIENT = StudyThresholds(
    over_flat_min=-1, over_rolled_min=-1, over_lsqml_min=-1, grouping_min=-1, patch_ratio_min=0.1, shift_px_max=1000,
    cells={f"10000/{view}": CellFloor(deviance_ratio_max=99, ph_ms_ssim_min=0) for view in ("dense", "sparse")},
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(smoke_hub: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study at one dose: four trainings of three iterations, LSQML's place taken by a blurred truth, compared."""
    hub = tmp_path_factory.mktemp("ran") / "hub"
    shutil.copytree(smoke_hub.hub, hub)
    design = StudyDesign.model_validate({**get_study_design("smoke").model_dump(), "doses": (1e4,)})
    (hub / "design.json").unlink()
    claim_hub(hub, design)
    assert main(["train", "--hub", str(hub), "--arm", "all", "--iterations", "3", "--device", "cpu"]) == 0
    truth = read_arrays(smoke_hub.truth(1e4))[0]["objectTruth"]
    for view in ("baseline", "dense", "sparse"):
        path = Layout(hub).reconstruction(1e4, view, "test") / "reconstruction.npz"
        write_arrays(path, {"object": (truth + np.roll(truth, 1, 0)) / 2, "offset": np.zeros(2, np.int64)})
    assert main(["compare", "--hub", str(hub), "--device", "cpu"]) == 0
    return hub


@pytest.fixture
def hub(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "hub"))


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_compare_command_and_its_manifest(hub: Path, capsys: pytest.CaptureFixture[str]):
    manifest = read_json(hub / "comparison_manifest.json")
    assert (manifest["n_jobs"], manifest["n_success"], manifest["n_failed"]) == (3, 3, 0)
    assert [job["view"] for job in manifest["jobs"]] == ["baseline", "dense", "sparse"]
    arms = {job["view"]: [arm["arm"] for arm in job["arms"]] for job in manifest["jobs"]}
    assert arms["dense"] == ["PtychoPINN", "PtychoPINN-gs1", "Baseline", "PtyChi", "flat"]
    assert arms["baseline"] == ["PtychoPINN-gs1", "Baseline", "PtyChi", "flat"]
    assert all(arm["status"] == "success" for job in manifest["jobs"] for arm in job["arms"])
    before = (hub / "compare/dose_10000/dense/metrics.json").stat().st_mtime_ns
    assert main(["compare", "--hub", str(hub), "--dose", "1e4", "--view", "dense", "--ms-ssim-sigma", "1.0",
                 "--dry-run=false", "--json"]) == 0  # fmt: skip
    assert said(capsys)["n_success"] == 1
    assert (hub / "compare/dose_10000/dense/metrics.json").stat().st_mtime_ns == before
    assert main(["compare", "--hub", str(hub), "--ms-ssim-sigma", "2"]) == 2
    assert "the design says 1" in capsys.readouterr().err
    assert not [path for path in hub.rglob("*") if re.search(r"\d{4}-\d\d-\d\dT", path.name)]


def test_a_dry_run_opens_nothing_and_takes_no_result_away(hub: Path, capsys: pytest.CaptureFixture[str]):
    before = read_json(hub / "comparison_manifest.json")["jobs"]
    assert main(["compare", "--hub", str(hub), "--dry-run", "--json"]) == 0
    assert {job["status"] for job in said(capsys)["jobs"]} == {"dry-run"}
    assert read_json(hub / "comparison_manifest.json")["jobs"] == before


def test_an_arm_without_a_file_is_an_empty_row(hub: Path):
    shutil.rmtree(hub / "train/dose_10000/dense_gs2")
    shutil.rmtree(hub / "reconstruct")
    write_json(hub / "reconstruction_manifest.json", {"jobs": [{
        "dose": 1e4, "view": "dense", "split": "test", "status": "skipped",
        "error": "pty-chi is not installed; pip ...",
    }]})  # fmt: skip
    assert main(["compare", "--hub", str(hub), "--view", "dense"]) == 0
    job = next(job for job in read_json(hub / "comparison_manifest.json")["jobs"] if job["view"] == "dense")
    reasons = {arm["arm"]: arm["reason"] for arm in job["arms"] if arm["status"] == "missing"}
    assert reasons == {"PtychoPINN": "no bundle: run train --arm all", "PtyChi": "pty-chi is not installed; pip ..."}


def test_a_study_nobody_set_floors_for_is_refused(hub: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["summary", "--hub", str(hub)]) == 3
    assert capsys.readouterr().out.startswith("FAILED")
    verdict = read_json(hub / "verdict.json")
    assert verdict["passed"] is False
    assert any("has no threshold" in gate["reason"] for gate in verdict["gates"])
    assert "None" not in (hub / "report.html").read_text()


def test_the_page_and_the_summary_say_the_same(hub: Path):
    (hub / "jobs.csv").write_text("job,state,queue_wait_s,gpu_hours,gpu_energy_wh\ntrain-a,done,3.5,0.25,\n")
    written = write_summary(hub, LENIENT)
    assert written.verdict.passed, written.verdict.sentence()
    page, text = (hub / "report.html").read_text(), (hub / "summary.md").read_text()
    assert written.verdict.sentence() in text
    assert written.verdict.sentence() in page
    study = read_study(hub)
    score = study.cell(1e4, "dense").mean("PtychoPINN", "ph_ms_ssim")
    assert f"{score:.3f}" in text
    assert f"{score:.3f}" in page
    for fixed in ("Not to be claimed", "LSQML without regularisation is a weak opponent", "simulated"):
        assert fixed in text
        assert fixed in page
    titles = ["Phase at 10000 photons", "Error of the phase at 10000 photons", "Fourier ring correlation"]
    titles += ["Spacing of the views", "One pattern at every dose", "Probe, known and fixed", "Scan and groups"]
    for title in titles:
        assert title in page
    assert "In all 3.5 s of waiting, 0.25 GPU-hours." in page
    assert page.count("data:image/png;base64,") > 25
    assert not re.search(r"<script|(src|href)=.?https?:", page)
    assert len(page) < 6_000_000
    assert page.count("<img") == page.count(" alt=")


def test_findings_claim_no_small_difference_and_no_lead_in_dense_at_high_dose(hub: Path):
    path = hub / "compare/dose_10000/dense/metrics.json"
    record, manifest = read_json(path), read_json(hub / "comparison_manifest.json")
    scores = {"PtychoPINN": 0.80, "PtychoPINN-gs1": 0.60, "Baseline": 0.77, "PtyChi": 0.70, "flat": 0.01}
    for arm in record["arms"]:
        arm["numbers"]["ph_ms_ssim"] = scores[arm["arm"]]
    write_json(path, record)
    next(job for job in manifest["jobs"] if job["view"] == "dense")["metrics_sha256"] = sha256_of(path)
    write_json(hub / "comparison_manifest.json", manifest)
    dense = [line for line in findings(read_study(hub)) if "photons, dense" in line]
    assert dense == [
        "10000 photons, dense: PtychoPINN scored +0.100 over PtyChi; not to be claimed at this dose in this view.",
        "10000 photons, dense: no finding between PtychoPINN and Baseline (+0.030).",
        "10000 photons, dense: PtychoPINN is ahead of PtychoPINN-gs1 by 0.200.",
    ]


def test_a_skipped_view_is_shown_with_its_reason(hub: Path):
    Layout(hub).dataset(1e4, "sparse", "test").unlink()
    write_json(hub / "dose_10000/sparse/skip_test.json", {
        "dose": 1e4, "view": "sparse", "split": "test", "n_accepted": 3, "min_groups": 12, "packing_estimate": 4.2,
        "reason": "3 groups are 51.2 px apart in the test half, 12 are needed"})  # fmt: skip
    assert main(["compare", "--hub", str(hub)]) == 0
    written = write_summary(hub, LENIENT)
    assert written.verdict.passed, written.verdict.sentence()
    assert "skipped: 3 groups are 51.2 px apart" in (hub / "summary.md").read_text()


def test_replay_finds_equal_and_names_what_differs(hub: Path, capsys: pytest.CaptureFixture[str]):
    write_summary(hub, LENIENT)
    shutil.rmtree(hub / "dose_10000" / "dense")  # archived images and truth are enough
    (hub / "dose_10000" / "truth.npz").unlink()
    assert main(["replay", "--hub", str(hub), "--json"]) == 0
    told = said(capsys)
    assert (told["equal"], told["differences"]) == (True, [])
    assert told["compared"] > 200
    image = hub / "compare/dose_10000/dense/aligned_Baseline.npz"
    arrays = read_arrays(image)[0]
    write_arrays(image, {**arrays, "object": arrays["object"] * np.complex64(np.exp(0.1j))})
    found = replay_hub(hub)
    assert {str(one).split(":")[0] for one in found.differences} == {
        "aligned_Baseline.npz", "compare/dose_10000/dense/metrics.json, Baseline"}  # fmt: skip
    assert not found.equal


def test_replay_sees_a_verdict_and_numbers_that_were_edited(hub: Path):
    write_summary(hub)
    verdict = read_json(hub / "verdict.json")
    write_json(hub / "verdict.json", {**verdict, "passed": True})
    assert [one.what for one in replay_hub(hub).differences] == ["passed"]
    write_json(hub / "verdict.json", verdict)
    path = hub / "compare/dose_10000/sparse/metrics.json"
    record = read_json(path)
    record["arms"][0]["numbers"]["ph_ms_ssim"] = 0.99
    write_json(path, record)
    assert not replay_hub(hub).equal
    assert "is not what was recorded" in read_study(hub).cell(1e4, "sparse").reason


def test_nothing_compared_is_told(smoke_hub: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(BadInput, match="run compare first"):
        write_summary(smoke_hub.hub)
    shutil.copy(smoke_hub.hub / "design.json", tmp_path / "design.json")
    assert main(["compare", "--hub", str(tmp_path)]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main(["replay", "--hub", str(tmp_path)]) == 2


def test_a_run_signs_its_verdict_with_every_gate_and_replays_by_the_house(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "house"))
    for what in ("publish_markdown", "publish_table"):
        monkeypatch.setattr(f"tasks.artifacts.{what}", lambda *_, **__: None)  # pictures on a server that is not here
    plan = DoseOverlapPlan(size="smoke", doses=(1e4,))
    run = open_run("ptycho", plan, label="signed")
    layout = Layout(hub)
    design = read_study(hub).design
    verdict = show.publish(run, steps.Study(plan, design, layout, LENIENT, None))
    assert any(line.startswith("over_flat_min -1") for line in verdict.changed_thresholds)
    bundle = run.folder / "auditors_bundle.zip"
    assert verify(bundle) == []
    signed = signing.opened(read_json(run.folder / "verdict.dsse.json"), signing.believed())
    said = signed.statement["predicate"]
    assert said["gated"]["gates"] == [gate.record() for gate in verdict.gates]
    assert len(said["passedTests"]) + len(said["failedTests"]) == len(verdict.gates) > 10
    assert said["gated"]["sentence"] == verdict.sentence()
    assert "under changed thresholds: " in verdict.sentence()
    assert verdict.sentence() in (run.folder / "report.html").read_text().replace("&gt;", ">")
    assert {one["name"] for one in said["configuration"]} >= {"data", "panel", "plan"}
    assert gated(["replay", "--bundle", str(bundle)]) == 0
    told = capsys.readouterr().out
    assert "equal: " in told
    assert "CHANGED thresholds: " in told
