"""The matrix of trainings, its manifests, the loss guardrail and the command line of phases A to E."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ptycho_core.__main__ import main
from ptycho_core.check_loss import archive_check, check_loss, promote_reference
from ptycho_core.design import StudyDesign, get_study_design
from ptycho_core.layout import Layout, claim_hub
from ptycho_core.matrix import build_training_jobs
from study_core.errors import BadInput
from study_core.files import read_json, write_json


def fake_data(hub: Path, design: StudyDesign, *, without: tuple[str, ...] = ()) -> Layout:
    """A hub whose datasets exist by name; the matrix opens none."""
    layout = Layout(hub)
    claim_hub(hub, design)
    for dose in design.doses:
        for view in ("baseline", *design.views):
            for split in ("train", "test"):
                path = layout.dataset(dose, view, split)
                path.parent.mkdir(parents=True, exist_ok=True)
                if view not in without:
                    path.touch()
    return layout


def test_build_training_jobs_matrix(tmp_path: Path):
    design = get_study_design()
    fake_data(tmp_path, design)
    jobs = build_training_jobs(design, tmp_path)
    assert [(job.dose, job.view, job.gridsize) for job in jobs] == [
        (dose, view, gridsize)
        for dose in (1e3, 1e4, 1e5)
        for view, gridsize in (("baseline", 1), ("dense", 2), ("sparse", 2))
    ]
    assert jobs[1].train == tmp_path / "dose_1000" / "dense" / "dense_train.npz"
    assert jobs[1].artifact_dir == tmp_path / "train" / "dose_1000" / "dense_gs2"
    assert len({job.artifact_dir for job in jobs}) == 9
    every = build_training_jobs(design, tmp_path, arms=("pinn", "baseline"), seeds=design.seeds.training)
    assert len(every) == 27 + 9
    assert all((job.truth is not None) == (job.arm == "baseline") for job in every)
    assert all(job.truth is None or job.truth.name == "truth_train.npz" for job in every)


def test_build_training_jobs_skips_missing_view(tmp_path: Path):
    design = get_study_design()
    layout = fake_data(tmp_path, design, without=("sparse",))
    with pytest.raises(FileNotFoundError, match=r"sparse_train\.npz: no such dataset"):
        build_training_jobs(design, tmp_path)
    write_json(layout.skip(1e3, "sparse", "train"), {"reason": "3 groups are 102.4 px apart"})
    skips: list[dict[str, Any]] = []
    jobs = build_training_jobs(design, tmp_path, allow_missing=True, skip_events=skips)
    assert len(jobs) == 6
    assert [skip["dose"] for skip in skips] == [1e3, 1e4, 1e5]
    assert skips[0]["reason"] == "3 groups are 102.4 px apart"
    assert "run generate and overlap" in skips[1]["reason"]


GOOD = {
    "status": "success", "final_loss": 1.5, "deviance_ratio_test": 1.11, "deviance_ratio_patch": 1.04,
    "deviance_ratio_flat": 2.0,
}  # fmt: skip


def manifest(**changes: Any) -> dict[str, Any]:
    cell = {"dose": 1e4, "view": "dense", "gridsize": 2, "seed": 0, "arm": "pinn"}
    return {"jobs": [{**cell, "result": {**GOOD, **changes}}]}


CELL: dict[str, Any] = {"dose": 1e4, "view": "dense", "gridsize": 2}


def test_a_training_within_tolerance_passes():
    check = check_loss(manifest(), manifest(deviance_ratio_test=1.159), **CELL)
    assert check.passed
    assert check.line == (
        "pass dose 10000 dense gs2: deviance ratio 1.1590 vs reference 1.1100, tolerance 0.05: ok"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"status": "failed"}, "status is failed"),
        ({"deviance_ratio_test": None}, "deviance_ratio_test is None"),
        ({"final_loss": float("nan")}, "final_loss is nan"),
        ({"deviance_ratio_test": 1.161}, "exceeds the reference by 0.0510"),
        ({"deviance_ratio_test": 1.1, "deviance_ratio_flat": 1.1}, "no more than a flat object"),
        ({"deviance_ratio_patch": 0.721}, "patch ratio 0.7210 < 0.90: noise was copied"),
    ],
)
def test_the_loss_guardrail_refuses(change: dict[str, Any], told: str):
    check = check_loss(manifest(), manifest(**change), **CELL)
    assert not check.passed
    assert told in check.line
    assert "\n" not in check.line


def test_the_guardrail_matches_every_key():
    for key, value in (("dose", 1e3), ("view", "sparse"), ("gridsize", 1)):
        check = check_loss(manifest(), manifest(), **{**CELL, key: value})
        assert "no such job in the reference; no such job in the candidate" in check.line
    assert not check_loss(manifest(), manifest(), **CELL, seed=1).passed
    assert check_loss(manifest(), manifest(deviance_ratio_test=1.3), **CELL, tolerance=0.2).passed


def test_check_is_kept_beside_the_candidate_and_a_person_promotes(tmp_path: Path):
    path = write_json(tmp_path / "training_manifest.json", manifest())
    kept = archive_check(check_loss(manifest(), manifest(), **CELL), path)
    assert kept == tmp_path / "check_loss_10000_dense_gs2.json"
    assert read_json(kept)["passed"] is True
    reference = promote_reference(path, Layout(tmp_path).reference_manifest, by="Ada", note="panels looked at")
    assert read_json(reference) == manifest()
    assert read_json(reference.with_name("promotion.json"))["by"] == "Ada"
    path.write_text("{}")
    assert read_json(reference) == manifest()
    with pytest.raises(BadInput, match="needs a name and a note"):
        promote_reference(path, reference, by=" ", note="x")
    failed = write_json(tmp_path / "failed.json", manifest(status="failed"))
    with pytest.raises(BadInput, match="no training that succeeded"):
        promote_reference(failed, reference, by="Ada", note="x")


@pytest.fixture
def hub(smoke_hub: Layout, tmp_path: Path) -> Path:
    """A copy of the generated smoke study at 1e4; its other doses have no data."""
    shutil.copytree(smoke_hub.hub, tmp_path / "hub")
    return tmp_path / "hub"


def test_commands_from_design_to_training(hub: Path, capsys: pytest.CaptureFixture[str]):
    train = ["train", "--hub", str(hub), "--dose", "1e4", "--view", "dense", "--iterations", "2"]
    assert main([*train, "--dry-run"]) == 0
    first = read_json(hub / "training_manifest.json")
    assert first["dry_run"] is True
    assert [job["result"]["status"] for job in first["jobs"]] == ["dry-run"]
    assert main([*train, "--dry-run=false"]) == 0
    printed = capsys.readouterr().out
    assert "bundle_path train/dose_10000/dense_gs2/bundle.zip" in printed
    assert re.search(r"bundle_sha256 [0-9a-f]{64}", printed)
    assert "skipped views: 0" in printed
    [job] = read_json(hub / "training_manifest.json")["jobs"]
    assert job["result"]["status"] == "success"
    assert job["result"]["loss_kind"] == "poisson_nll_heldout"
    assert (hub / job["result"]["bundle_path"]).stat().st_size == job["result"]["bundle_size_bytes"]
    assert (hub / job["log_path"]).exists()
    assert main([*train, "--dry-run=true"]) == 0, "a dry run takes no result away"
    [kept] = read_json(hub / "training_manifest.json")["jobs"]
    assert kept == job
    assert main(["train", "--hub", str(hub), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["skipped_count"] == 6
    assert read_json(hub / "skip_summary.json")["skipped_count"] == 6
    assert main(["train", "--hub", str(hub), "--strict", "--dry-run"]) == 2
    assert "no such dataset; run generate and overlap" in capsys.readouterr().err
    names = [path.name for path in hub.rglob("*")]
    assert not [name for name in names if re.search(r"\d{4}-\d\d-\d\dT", name)], "no name holds a time"


def test_check_loss_command(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good, bad = (write_json(tmp_path / name / "m.json", manifest(**change))
                 for name, change in (("a", {}), ("b", {"deviance_ratio_test": 1.5})))  # fmt: skip
    common = ["--dose", "1e4", "--view", "dense", "--gridsize", "2", "--reference", str(good)]
    assert main(["check-loss", "--candidate", str(good), *common]) == 0
    assert main(["check-loss", "--candidate", str(bad), *common]) == 3
    assert main(["check-loss", "--candidate", str(bad), *common, "--tolerance", "0.5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["check-loss", "--candidate", str(tmp_path / "none"), *common]) == 2
    assert "no such file" in capsys.readouterr().err
    promote = ["promote-reference", "--manifest", str(good), "--by", "Ada", "--note", "looked", "--hub", str(hub)]
    assert main(promote) == 0
    assert read_json(hub / "reference" / "training_manifest.json") == manifest()


def test_validate_command(hub: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "--hub", str(hub), "--dose", "10000"]) == 0
    assert "6 datasets keep the contract" in capsys.readouterr().out
    path = hub / "dose_10000" / "dense" / "dense_test.npz"
    path.write_bytes((hub / "dose_10000" / "sparse" / "sparse_test.npz").read_bytes())
    assert main(["validate", "--hub", str(hub), "--dose", "10000"]) == 2
    assert "dense_test.npz: holds view sparse, expected dense" in capsys.readouterr().err
    path.write_bytes((hub / "dose_10000" / "dense" / "dense_train.npz").read_bytes())
    assert main(["validate", "--hub", str(hub), "--dose", "10000"]) == 2
    assert "holds split train, expected test" in capsys.readouterr().err


BAD = [
    (["train", "--hub", "HUB", "--dry-run=maybe"], "--dry-run=maybe is neither"),
    (["train", "--hub", "HUB", "--dose", "7"], "dose 7 is not of this study; one of 1000, 10000, 100000"),
    (["train", "--hub", "HUB", "--view", "thick"], "no view 'thick'; one of baseline, dense, sparse"),
    (["train", "--hub", "HUB", "--arm", "magic"], "no arm 'magic'"),
    (["overlap", "--hub", "NONE"], "no design.json; run design or generate"),
    (["generate", "--hub", "HUB", "--size", "mini"], "holds another study"),
    (["generate", "--hub", "NONE", "--size", "huge"], "no size 'huge'; one of full, cluster64, mini, smoke"),
    (["design", "--hub", "NONE", "--dose", "1000", "--dose", "1000.5"], "unique as whole photons"),
    (["design", "--hub", "NONE", "--dose", "-5"], "finite and above 0"),
    (["generate", "--hub", "NONE", "--tile"], "describe a base file"),
    (["generate", "--hub", "NONE", "--base-npz", "NONE"], "no such file"),
    (["fly"], "see python -m ptycho_core --help"),
]


@pytest.mark.parametrize(("words", "told"), BAD)
def test_bad_command_line(smoke_hub: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str], words, told: str):
    places = {"HUB": str(smoke_hub.hub), "NONE": str(tmp_path / "none")}
    assert main([places.get(word, word) for word in words]) == 2
    message = capsys.readouterr().err.strip()
    assert told in message
    assert "\n" not in message


def test_the_initiatives_module_names(tmp_path: Path):
    import subprocess
    import sys

    hub, root = tmp_path / "hub", Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", "studies.fly64_dose_overlap.generation", "--hub", str(hub), "--size", "smoke"]
    done = subprocess.run([*command, "--dose", "1e3"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (hub / "dose_1000" / "patched_train.npz").samefile(hub / "dose_1000" / "train.npz")


def test_a_manifest_of_another_design_is_not_mixed_in(tmp_path: Path):
    from ptycho_core.manifests import empty_result, job_entry, write_training_manifest

    design = get_study_design("mini")
    layout = fake_data(tmp_path, design)
    jobs = build_training_jobs(design, tmp_path)
    entries = [job_entry(job, layout, empty_result("skipped")) for job in jobs]
    write_training_manifest(layout, design, entries[:2], [], filters={}, dry_run=False)
    write_training_manifest(layout, design, entries[2:3], [], filters={}, dry_run=False)
    assert len(read_json(layout.training_manifest)["jobs"]) == 3
    before = copy.deepcopy(read_json(layout.training_manifest))
    other = design.model_copy(update={"iterations": 7})
    write_training_manifest(layout, other, entries[:1], [], filters={}, dry_run=False)
    after = read_json(layout.training_manifest)
    assert len(after["jobs"]) == 1
    assert after["design_sha256"] != before["design_sha256"]
